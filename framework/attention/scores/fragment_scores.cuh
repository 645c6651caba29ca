// Indexer scores on tensor cores, operands rounded to bfloat16 or tf32, sums in float32.
//
// Tile picture: a warp holds 32 keys (16 when their rows take more than 256 bytes) in registers as the left
// operand of the products and meets one query after another, whose heads lie in shared memory as the right
// operand, 8 to a fragment:
//
//   x[16 keys][8 heads] of each fragment: lane (g, c), g = lane / 4, c = lane % 4, has keys g and g + 8 and
//   heads 2c and 2c + 1. It adds w ReLU(x) of its heads, fragment after fragment; then the four lanes of a
//   key add up theirs, in exchanges that leave each lane the score of one key.
//
// Both operands come as 16-byte pieces of a row: piece c of each 64 bytes goes to lanes (., c), first half to
// one step of the contraction, second half to the next. That is a permutation of the width, the same on both
// sides. Queries are stored in the order in which lanes read them, so that a warp's read is 512 consecutive
// bytes; keys are packed once into rows of whole pieces in device memory.
//
// A score is the same sequence of operations wherever its key lies in the tile: equal rows give equal bits.
// Heads are padded to a multiple of 8 with zeros (and zero weights), the width to whole pieces.
//
// A query of 32 heads of 128 in bfloat16 takes a warp 64 products m16n8k16 for 32 keys, beside 16 loads of
// 512 bytes from shared memory and about 180 other instructions: tensor cores are the limit (see
// lightning_indexer_cuda.cu).
#pragma once

#include "framework/attention/scores/head_tile.cuh"
#include "framework/attention/scores/score_rows.h"
#include "framework/attention/scores/score_tile.cuh"
#include "framework/blas/tile_product.cuh"
#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/core/precision.h"
#include "framework/core/tensor.h"

namespace sieve::cuda {

// 16 bytes of a row from element d on, rounded; zeros at and beyond `width`. `whole`: it can be read as
// packs.
template <class Words>
__device__ uint4 packed_piece(const float* row, int d, int width, bool whole) {
    constexpr int n = 4 * Words::elements;
    float x[n];
    if (whole) {
#pragma unroll
        for (int i = 0; i < n; i += 4) {
            const FullPack<float> pack =
                d + i < width ? load_pack<full_pack<float>>(row + d + i) : FullPack<float>{};
#pragma unroll
            for (int e = 0; e < 4; ++e) x[i + e] = pack.at[e];
        }
    } else {
        for (int i = 0; i < n; ++i) x[i] = d + i < width ? row[d + i] : 0.0f;
    }
    return make_uint4(Words::pack(x), Words::pack(x + Words::elements), Words::pack(x + 2 * Words::elements),
                      Words::pack(x + 3 * Words::elements));
}

// [rows, width] as [rows, chunks * 4] pieces.
template <class Words, int chunks>
Tensor packed_rows(const float* x, int64_t rows, int64_t width) {
    const Tensor packed = Tensor::empty(Shape{rows, chunks * 16}, DType::float32, device);
    uint4* out = static_cast<uint4*>(packed.raw());
    for_each_element(rows * chunks * 4, [=] __device__(int64_t i) {
        const int piece = static_cast<int>(i % (chunks * 4)), wide = static_cast<int>(width);
        out[i] = packed_piece<Words>(x + i / (chunks * 4) * width, piece * 4 * Words::elements, wide,
                                     whole_packs<float>(wide));
    });
    return packed;
}

// Queries and weights of a block, in shared memory.
template <class Words, int chunks>
struct FragmentQueries {
    uint4* q;  // [queries, head tiles, chunks, lanes]
    float* w;  // [queries, head tiles, 8]: scale w
    int head_tiles;

    __host__ __device__ static int tiles_of(int64_t heads) { return static_cast<int>((heads + 7) / 8); }
    static size_t bytes(int64_t queries, int64_t heads) {
        return static_cast<size_t>(queries * tiles_of(heads)) * (chunks * 512 + 32);
    }

    __device__ FragmentQueries(void* shared, int queries, int64_t heads)
        : q(static_cast<uint4*>(shared)), head_tiles(tiles_of(heads)) {
        w = reinterpret_cast<float*>(q + queries * head_tiles * chunks * 32);
    }

    // Queries t0... of batch row b; those at and beyond `end` are zeros. By the whole block, which then has
    // to meet.
    __device__ void load(const IndexerRows<float>& a, int64_t b, int64_t t0, int queries, int64_t end) {
        constexpr int pieces = chunks * 4;
        const int heads = static_cast<int>(a.sizes.heads), width = static_cast<int>(a.sizes.width);
        const int padded = head_tiles * 8;
        const bool whole = whole_packs<float>(width);
        for (int i = threadIdx.x; i < queries * padded * pieces; i += blockDim.x) {
            const int piece = i % pieces, j = i / pieces % padded, query = i / (pieces * padded);
            const float* row = a.q + ((b * a.sizes.length + t0 + query) * heads + j) * width;
            const bool there = t0 + query < end && j < heads;
            const int at = ((query * head_tiles + j / 8) * chunks + piece / 4) * 32 + j % 8 * 4 + piece % 4;
            q[at] = packed_piece<Words>(row, piece * 4 * Words::elements, there ? width : 0, whole);
        }
        for (int i = threadIdx.x; i < queries * padded; i += blockDim.x) {
            const int j = i % padded, query = i / padded;
            const bool there = t0 + query < end && j < heads;
            w[i] = there ? a.scale * a.w[(b * a.sizes.length + t0 + query) * heads + j] : 0.0f;
        }
    }
};

// The keys of one warp.
template <class Words, int chunks, int tiles>
class FragmentKeys {
  public:
    static constexpr int keys = 16 * tiles;

    // Which of the warp's keys this lane's score is of; with one tile two lanes have the same, and the first
    // of them owns it.
    __device__ static int own() { return 8 * (column() % rows) + group(); }
    __device__ static bool owns() { return column() < rows; }

    // Key i of the warp is row row_of(i) of `packed`.
    template <class RowOf>
    __device__ FragmentKeys(const uint4* packed, const RowOf& row_of) {
#pragma unroll
        for (int v = 0; v < rows; ++v) {
            const uint4* row = packed + row_of(8 * v + group()) * (chunks * 4) + column();
#pragma unroll
            for (int c = 0; c < chunks; ++c) a_[v][c] = row[c * 4];
        }
    }

    // The score of this lane's key. Calls signs(word, bits) for each 32 heads with what over_heads(bits,
    // Or()) makes their signs of.
    template <class Signs>
    __device__ float score(const FragmentQueries<Words, chunks>& queries, int query,
                           const Signs& signs) const {
        const int lane = threadIdx.x % warp_size, last = queries.head_tiles - 1;
        const uint4* q = queries.q + query * queries.head_tiles * chunks * 32 + lane;
        const float* w = queries.w + query * queries.head_tiles * 8 + 2 * column();
        float sum[rows] = {};
        uint32_t bits[rows] = {};
#pragma unroll 2
        for (int n = 0; n <= last; ++n) {
            float x[tiles][4] = {};
            multiply([&](int c) { return q[(n * chunks + c) * 32]; }, x);
            const float2 weight = *reinterpret_cast<const float2*>(w + n * 8);
            const int bit = n % 4 * 8 + 2 * column();
#pragma unroll
            for (int v = 0; v < rows; ++v) {
                const float left = x[v / 2][v % 2 * 2], right = x[v / 2][v % 2 * 2 + 1];
                sum[v] += weight.x * relu(left);
                sum[v] += weight.y * relu(right);
                bits[v] |= static_cast<uint32_t>(left > 0) << bit | static_cast<uint32_t>(right > 0)
                                                                        << (bit + 1);
            }
            if (n % 4 < 3 && n < last) continue;
            signs(n / 4, bits);
#pragma unroll
            for (int v = 0; v < rows; ++v) bits[v] = 0;
        }
        return over_heads(sum, Sum()) + 0.0f;  // a product that underflowed may have left -0
    }

    // Combines what the four lanes of each key hold; each lane gets that of its own key. The order is the
    // same for all keys.
    template <class V, class Operation>
    __device__ static V over_heads(const V (&value)[2 * tiles], Operation op) {
        V mine[tiles];
#pragma unroll
        for (int m = 0; m < tiles; ++m) {
            const bool odd = column() % 2;
            const V keep = odd ? value[2 * m + 1] : value[2 * m],
                    give = odd ? value[2 * m] : value[2 * m + 1];
            mine[m] = op(keep, __shfl_xor_sync(whole_warp, give, 1));
        }
        const bool high = column() / 2;
        const V keep = high ? mine[tiles - 1] : mine[0], give = high ? mine[0] : mine[tiles - 1];
        return op(keep, __shfl_xor_sync(whole_warp, give, 2));
    }

    // x[m] += the products of keys 16 m + ... with 8 rows of the other side, whose pieces of chunk c are
    // b(c).
    template <class B>
    __device__ void multiply(const B& b, float (&x)[tiles][4]) const {
#pragma unroll
        for (int c = 0; c < chunks; ++c) {
            const uint4 right = b(c);
#pragma unroll
            for (int m = 0; m < tiles; ++m)
                Words::multiply(x[m],
                                {a_[2 * m][c].x, a_[2 * m + 1][c].x, a_[2 * m][c].y, a_[2 * m + 1][c].y},
                                {right.x, right.y});
#pragma unroll
            for (int m = 0; m < tiles; ++m)
                Words::multiply(x[m],
                                {a_[2 * m][c].z, a_[2 * m + 1][c].z, a_[2 * m][c].w, a_[2 * m + 1][c].w},
                                {right.z, right.w});
        }
    }

  private:
    static constexpr int rows = 2 * tiles;  // of its group of 4 lanes: keys 8 v + g

    __device__ static int group() {
        return static_cast<int>(threadIdx.x) % warp_size / 4;
    }
    __device__ static int column() {
        return static_cast<int>(threadIdx.x) % 4;
    }

    uint4 a_[rows][chunks];
};

struct Or {
    __device__ uint32_t operator()(uint32_t a, uint32_t b) const { return a | b; }
};

// Shared memory that a block may have.
inline size_t most_shared_bytes() {
    static const size_t bytes = [] {
        const DeviceInfo info = device_info();
        const int kilobytes = info.major >= 9 ? 227 : info.major == 8 && info.minor == 0 ? 163 : 99;
        return static_cast<size_t>(kilobytes) << 10;
    }();
    return bytes;
}

template <class W, int n, int m>
struct FragmentShape {
    using Words = W;
    static constexpr int chunks = n, tiles = m;
};

// Calls f with the shape that the precision and the width ask for. False, and nothing is called, where scores
// are computed exactly: in fp32, and for rows of more than 128 elements.
template <class F>
bool with_fragments(int64_t width, F&& f) {
    if (precision() == Precision::fp32 || width > 128) return false;
    if (precision() == Precision::bf16) {
        if (width <= 32) return f(FragmentShape<Bf16Words, 1, 2>{}), true;
        if (width <= 64) return f(FragmentShape<Bf16Words, 2, 2>{}), true;
        return f(FragmentShape<Bf16Words, 4, 2>{}), true;
    }
    if (width <= 32) return f(FragmentShape<Tf32Words, 2, 2>{}), true;
    if (width <= 64) return f(FragmentShape<Tf32Words, 4, 2>{}), true;
    return f(FragmentShape<Tf32Words, 8, 1>{}), true;
}

}  // namespace sieve::cuda
