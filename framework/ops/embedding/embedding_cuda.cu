// forward: a thread copies one pack of 16 bytes. 8 bytes an element.
//
// backward: each row of dW is one warp's, which adds up what belongs to it in registers, in ascending order
// of positions: no atomics, and the CPU's bits. A block of 8 warps owns a range of the vocabulary and one
// tile of columns (a pack a lane). It takes the tokens in stages of 4096:
//
//   each warp filters its eighth of the stage twice, to count and to write: the tokens within the block's
//   range become a list in shared memory, in order                                      [4096] uint32
//   each warp goes through its rows: the lanes look for the row in the list, 32 entries at a time, and 16
//   rows of dy are on their way at once
//
// A stage after the first adds to what the one before has written, where the row occurs again. Every block
// reads all tokens, so the range is chosen for at most 264 blocks of a tile.
//
// From memory 4 bytes for each element of dy and of dW. V = 4096, N = 2048, width 256: 3 us at 3 TB/s for the
// bytes, about 8 us in all. V = 49152, N = 65536: 40 us for the bytes, about 80 us in all, and longer when
// one token is frequent, since one warp of each tile adds its rows: 100 us for 5 % of the tokens.
// Deterministic.
#include "framework/core/cuda/numbers.cuh"
#include "framework/core/cuda/packs.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/ops/embedding/kernels.h"

namespace sieve::cuda {
namespace {

constexpr int threads = 256;
constexpr int warps = threads / warp_size;
constexpr int segment = 512;            // tokens that a warp filters in one stage
constexpr int stage = warps * segment;  // tokens of a stage: a place in it takes 12 bits of a list's entry
constexpr int place_bits = 12;
constexpr int in_flight = 16;  // rows of dy that a lane loads before it adds the first

template <int n, class T>
__global__ void __launch_bounds__(threads) forward_kernel(EmbeddingForward<T> a) {
    const int64_t packs = a.width / n, index = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
    if (index >= a.count * packs) return;
    const int64_t i = index / packs, j = index % packs * n;
    const int32_t token = a.tokens[i];
    Pack<T, n> out;
    for (int e = 0; e < n; ++e) out.at[e] = not_a_number<T>;
    if (token >= 0 && token < a.vocab) out = load_pack<n>(a.weight + token * a.width + j);
    store_pack(a.y + i * a.width + j, out);
}

// The tokens of a stage that lie within the block's range of the vocabulary, in order.
struct Found {
    uint32_t entries[stage];  // place in the stage, and above it the row within the range
    int counts[warps];        // of each warp's segment
};

struct Range {
    int64_t first, rows;
};

// This warp's segment of the stage: counts what lies within the range, and writes it unless `to` is null.
__device__ int filter_segment(const int32_t* tokens, int64_t left, const Range& range, uint32_t* to) {
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    int found = 0;
#pragma unroll 4
    for (int i = 0; i < segment; i += warp_size) {
        const int place = warp * segment + i + lane;
        const int64_t row = place < left ? tokens[place] - range.first : -1;
        const bool inside = row >= 0 && row < range.rows;
        const unsigned ballot = __ballot_sync(whole_warp, inside);
        const int before = __popc(ballot & ((1u << lane) - 1));
        if (inside && to) to[found + before] = static_cast<uint32_t>(row << place_bits | place);
        found += __popc(ballot);
    }
    return found;
}

// Returns how many there are. All threads call it; afterwards all may read.
__device__ int find_tokens(Found& found, const int32_t* tokens, int64_t left, const Range& range) {
    const int warp = threadIdx.x / warp_size;
    const int count = filter_segment(tokens, left, range, nullptr);
    __syncthreads();  // the stage before has been read
    if (threadIdx.x % warp_size == 0) found.counts[warp] = count;
    __syncthreads();
    int start = 0, total = 0;
    for (int w = 0; w < warps; ++w) {
        if (w == warp) start = total;
        total += found.counts[w];
    }
    filter_segment(tokens, left, range, found.entries + start);
    __syncthreads();
    return total;
}

// Adds the rows of dy whose places are the set bits of `matches`, by lane of `entry`, in order.
template <int n, class T>
__device__ void add_rows(Pack<T, n>& sum, unsigned matches, uint32_t entry, const T* dy, int64_t width,
                         bool inside) {
    while (matches) {
        Pack<T, n> rows[in_flight];
        int count = 0;
#pragma unroll
        for (int r = 0; r < in_flight; ++r) {
            if (!matches) continue;
            const int source = __ffs(static_cast<int>(matches)) - 1;
            matches &= matches - 1;
            const uint32_t place = __shfl_sync(whole_warp, entry, source) & (stage - 1);
            if (inside) rows[r] = load_pack<n>(dy + place * width);
            ++count;
        }
#pragma unroll
        for (int r = 0; r < in_flight; ++r)
            if (r < count && inside)
                for (int e = 0; e < n; ++e) sum.at[e] += rows[r].at[e];
    }
}

// The part of a row of dW that was found is added to `sum`. Returns whether there was any.
template <int n, class T>
__device__ bool add_row(Pack<T, n>& sum, const Found& found, int total, uint32_t row, const T* dy,
                        int64_t width, bool inside) {
    const int lane = threadIdx.x % warp_size;
    bool any = false;
    for (int i = 0; i < total; i += warp_size) {
        const bool valid = i + lane < total;
        const uint32_t entry = valid ? found.entries[i + lane] : 0;
        const unsigned matches = __ballot_sync(whole_warp, valid && entry >> place_bits == row);
        any = any || matches;
        add_rows<n>(sum, matches, entry, dy, width, inside);
    }
    return any;
}

// Blocks: (ranges of rows, tiles of columns).
template <int n, class T>
__global__ void __launch_bounds__(threads) backward_kernel(EmbeddingBackward<T> a, int64_t range_rows) {
    __shared__ Found found;
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const int64_t begin = blockIdx.x * range_rows;
    const Range range{begin, a.vocab - begin < range_rows ? a.vocab - begin : range_rows};
    const int64_t column = (static_cast<int64_t>(blockIdx.y) * warp_size + lane) * n;
    const bool inside = column < a.width;
    for (int64_t first = 0; first == 0 || first < a.count; first += stage) {
        const int total = find_tokens(found, a.tokens + first, a.count - first, range);
        for (int64_t r = warp; r < range.rows; r += warps) {
            T* const out = a.dweight + (range.first + r) * a.width + column;
            Pack<T, n> sum{};
            if (first > 0 && total > 0 && inside) sum = load_pack<n>(out);
            const T* const dy = a.dy + first * a.width + column;
            const bool any = add_row<n>(sum, found, total, static_cast<uint32_t>(r), dy, a.width, inside);
            if (inside && (any || first == 0)) store_pack(out, sum);
        }
    }
}

template <int n, class T>
void launch_backward(const EmbeddingBackward<T>& a) {
    constexpr int64_t ranges = 264;
    const int64_t range = (a.vocab / (ranges * warps) + 1) * warps;
    launch_kernel(backward_kernel<n, T>,
                  {.blocks = dim3(blocks_for(a.vocab, range), blocks_for(a.width, warp_size * n)),
                   .threads = dim3(threads)},
                  a, range);
}

}  // namespace

template <class T>
void embedding_forward(const EmbeddingForward<T>& a) {
    constexpr int pack = full_pack<T>;
    if (start_packs(a.weight, a.y) && a.width % pack == 0)
        launch_kernel(forward_kernel<pack, T>,
                      {.blocks = dim3(blocks_for(a.count * (a.width / pack), threads)), .threads = threads},
                      a);
    else
        launch_kernel(forward_kernel<1, T>,
                      {.blocks = dim3(blocks_for(a.count * a.width, threads)), .threads = threads}, a);
}

template <class T>
void embedding_backward(const EmbeddingBackward<T>& a) {
    constexpr int pack = full_pack<T>;
    const bool packs = start_packs(a.dy, a.dweight) && a.width % pack == 0;
    packs ? launch_backward<pack>(a) : launch_backward<1>(a);
}

template void embedding_forward(const EmbeddingForward<float>&);
template void embedding_forward(const EmbeddingForward<double>&);
template void embedding_backward(const EmbeddingBackward<float>&);
template void embedding_backward(const EmbeddingBackward<double>&);

}  // namespace sieve::cuda
