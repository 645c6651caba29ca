// Scores: a block computes one tile of 32 queries and 64 keys (score_tile.cuh) and writes it from registers,
// 8 neighbouring keys at a time. Tiles that lie in the future as a whole are left out.
//
// Gradients, from g = dLoss/dI and the signs of the products, as two matrix products whose left operand is
// made on the way into the 64 x 64 tiles of blas/tile_product.cuh:
//
//   d[(t,j),:] = sum_s      ([x > 0] g[t,s]) k[s,:]                      dq = scale w d,  dw = scale q . d
//   dk[s,:]   += sum_(t,j)  ([x > 0] g[t,s]) (scale w[t,j] q[t,j,:])
//
// A chunk alone does not fill the device, so the long sums (over keys; over pairs (t,j)) are split into
// ranges whose partial sums go to memory and are added in ascending order. Deterministic: no atomics; the
// split depends on the sizes alone.
//
// FLOPs, over all chunks: T^2 HI dI for each of scores, dq and dk. Bytes: 4 T^2 / 2 for each pass over
// scores, masks or g, which stay in the L2 cache for the most part.
#include "framework/attention/scores/fragment_scores.cuh"
#include "framework/attention/scores/weighted_queries.cuh"
#include "framework/blas/tile_product.cuh"
#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/cuda/reduce.cuh"
#include "framework/core/tensor.h"

namespace sieve::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(HeadTile<T>::threads) score_rows_kernel(ScoreRows<T> a) {
    using Tile = HeadTile<T>;
    __shared__ typename Tile::Shared shared;
    const int64_t length = a.indexer.sizes.length, end = a.chunk.first + a.chunk.rows, z = blockIdx.z;
    const int64_t t0 = a.chunk.first + static_cast<int64_t>(blockIdx.y) * Tile::queries;
    const int64_t s0 = static_cast<int64_t>(blockIdx.x) * Tile::keys;
    const bool seen = s0 < t0 + Tile::queries;
    if (!seen && !a.future) return;
    // Calls f(i, j, row, t, s) for this thread's elements that exist.
    const auto for_each = [&](const auto& f) {
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 4; ++j) {
                const int64_t t = t0 + Tile::query(i), s = s0 + Tile::key(j);
                if (t < end && s < length) f(i, j, t - a.chunk.first, t, s);
            }
    };
    T sum[4][4] = {};
    if (seen)
        score_tile(a.indexer, a.chunk.batch + z, t0, s0, shared, sum,
                   [&](int word, const uint32_t(&bits)[4][4]) {
                       if (!a.masks) return;
                       uint32_t* masks =
                           a.masks + (z * mask_words(a.indexer.sizes.heads) + word) * a.chunk.rows * length;
                       for_each([&](int i, int j, int64_t row, int64_t, int64_t s) {
                           masks[row * length + s] = bits[i][j];
                       });
                   });
    if (!a.scores) return;
    T* scores = a.scores + z * a.chunk.rows * length;
    for_each([&](int i, int j, int64_t row, int64_t t, int64_t s) {
        if (s <= t)
            scores[row * length + s] = sum[i][j];
        else if (a.future)
            scores[row * length + s] = -static_cast<T>(INFINITY);
    });
}

// On tensor cores (fragment_scores.cuh): a block has up to 16 queries and `span` keys of their past; each
// warp walks over keys of its own.
template <class Words, int chunks, int tiles>
__global__ void __launch_bounds__(512)
    fragment_rows_kernel(ScoreRows<float> a, const uint4* packed, int queries, int64_t span) {
    using Keys = FragmentKeys<Words, chunks, tiles>;
    const IndexerSizes& n = a.indexer.sizes;
    const int64_t length = n.length, rows_end = a.chunk.first + a.chunk.rows, z = blockIdx.z;
    const int64_t b = a.chunk.batch + z, t0 = a.chunk.first + static_cast<int64_t>(blockIdx.y) * queries;
    const int64_t begin = static_cast<int64_t>(blockIdx.x) * span, last_query = t0 + queries - 1;
    if (begin > last_query && !a.future) return;
    FragmentQueries<Words, chunks> all(dynamic_shared<unsigned char>(), queries, n.heads);
    all.load(a.indexer, b, t0, queries, rows_end);
    __syncthreads();
    const int64_t seen = a.future ? length : last_query + 1 < length ? last_query + 1 : length;
    const int64_t end = begin + span < seen ? begin + span : seen, step = blockDim.x / warp_size * Keys::keys;
    for (int64_t s0 = begin + threadIdx.x / warp_size * Keys::keys; s0 < end; s0 += step) {
        const int64_t s = s0 + Keys::own();
        const bool there = Keys::owns() && s < length;
        if (s0 > last_query) {
            for (int64_t t = t0; t <= last_query && t < rows_end; ++t)
                if (there) a.scores[(z * a.chunk.rows + t - a.chunk.first) * length + s] = -INFINITY;
            continue;
        }
        const Keys keys(packed + z * length * chunks * 4,
                        [&](int i) { return s0 + i < length ? s0 + i : length - 1; });
        for (int i = 0; i < queries && t0 + i < rows_end; ++i) {
            const int64_t t = t0 + i, row = t - a.chunk.first;
            const float score = keys.score(all, i, [&](int word, const uint32_t(&bits)[2 * tiles]) {
                if (!a.masks) return;
                const uint32_t mask = Keys::over_heads(bits, Or());
                if (there && s <= t)
                    a.masks[((z * mask_words(n.heads) + word) * a.chunk.rows + row) * length + s] = mask;
            });
            if (a.scores && there && (s <= t || a.future))
                a.scores[(z * a.chunk.rows + row) * length + s] = s <= t ? score : -INFINITY;
        }
    }
}

// False where there is no room for a single query.
template <class Shape>
bool score_by_fragments(const ScoreRows<float>& a) {
    using Words = typename Shape::Words;
    using Keys = FragmentKeys<Words, Shape::chunks, Shape::tiles>;
    using Queries = FragmentQueries<Words, Shape::chunks>;
    const IndexerSizes& n = a.indexer.sizes;
    int queries = 16;
    while (queries > 0 && Queries::bytes(queries, n.heads) > most_shared_bytes()) --queries;
    if (queries == 0) return false;
    const int64_t keys = a.future ? n.length : a.chunk.first + a.chunk.rows;
    const int64_t warps = std::clamp<int64_t>((keys + Keys::keys - 1) / Keys::keys, 1, 16);
    const int64_t step = warps * Keys::keys, query_tiles = (a.chunk.rows + queries - 1) / queries;
    // Loading queries costs about as much as 64 keys: a block has four steps where there are enough blocks.
    const int64_t steps = query_tiles * a.chunk.batches * ((keys + step - 1) / step) >= 4 * 264 ? 4 : 1;
    const Tensor packed = packed_rows<Words, Shape::chunks>(a.indexer.k + a.chunk.batch * n.length * n.width,
                                                            a.chunk.batches * n.length, n.width);
    launch_kernel(fragment_rows_kernel<Words, Shape::chunks, Shape::tiles>,
                  {.blocks = dim3(blocks_for(keys, step * steps), static_cast<unsigned>(query_tiles),
                                  static_cast<unsigned>(a.chunk.batches)),
                   .threads = dim3(static_cast<unsigned>(warps * warp_size)),
                   .shared_bytes = Queries::bytes(queries, n.heads)},
                  a, static_cast<const uint4*>(packed.raw()), queries, step * steps);
    return true;
}

// n / d for n < 2^31 by one multiplication (Granlund and Montgomery, "Division by invariant integers using
// multiplication", PLDI 1994).
struct Divisor {
    uint32_t divisor, magic;
    int shift;

    explicit Divisor(int64_t d) : divisor(static_cast<uint32_t>(d)), shift(31) {
        while ((int64_t{1} << (shift - 31)) < d) ++shift;
        magic = static_cast<uint32_t>(((uint64_t{1} << shift) + divisor - 1) / divisor);
    }
    __device__ uint32_t quotient(uint32_t n) const {
        return static_cast<uint32_t>(static_cast<uint64_t>(n) * magic >> shift);
    }
};

// [x[t,j,s] > 0] g[t,s] of one batch row, where pair = t HI + j counts from the chunk's first query.
template <class T>
struct MaskedGradient {
    const T* g;             // [rows, T]
    const uint32_t* masks;  // [words, rows, T]
    uint32_t first, rows, length;
    Divisor heads;

    __device__ T at(uint32_t pair, uint32_t s) const {
        const uint32_t t = heads.quotient(pair), j = pair - t * heads.divisor;
        if (s > first + t) return T(0);
        const uint32_t mask = masks[(j / 32 * rows + t) * length + s];
        return mask >> (j % 32) & 1 ? g[t * length + s] : T(0);
    }
};

template <class T>
struct PairsByKeys {  // (i, l) is pair first_pair + i, key first_key + l
    static constexpr bool by_columns = false;
    MaskedGradient<T> gradient;
    uint32_t first_pair, first_key;
    int pairs;

    __device__ T at(int row, int64_t l, int64_t depth) const {
        return row < pairs && l < depth ? gradient.at(first_pair + row, first_key + static_cast<uint32_t>(l))
                                        : T(0);
    }
};

template <class T>
struct KeysByPairs {  // (i, l) is key first_key + i, pair first_pair + l
    static constexpr bool by_columns = true;
    MaskedGradient<T> gradient;
    uint32_t first_pair, first_key;
    int keys;

    __device__ T at(int row, int64_t l, int64_t depth) const {
        return row < keys && l < depth ? gradient.at(first_pair + static_cast<uint32_t>(l), first_key + row)
                                       : T(0);
    }
};

// What the kernels of both products read. Of each long sum, range i of `splits` is [i range, (i + 1) range).
template <class T>
struct Product {
    GradientRows<T> a;
    Divisor heads;
    T* partial;
    int64_t splits, range;

    __device__ int64_t pairs() const { return a.chunk.rows * a.indexer.sizes.heads; }
    __device__ MaskedGradient<T> gradient(int64_t b) const {
        const int64_t length = a.indexer.sizes.length, words = mask_words(a.indexer.sizes.heads);
        return {a.g + b * a.g_batch,
                a.masks + b * words * a.chunk.rows * length,
                static_cast<uint32_t>(a.chunk.first),
                static_cast<uint32_t>(a.chunk.rows),
                static_cast<uint32_t>(length),
                heads};
    }
    // The index of the chunk's first pair in q (over width) and w.
    __device__ int64_t first_pair(int64_t b) const {
        const IndexerSizes& n = a.indexer.sizes;
        return ((a.chunk.batch + b) * n.length + a.chunk.first) * n.heads;
    }
};

__device__ inline int part_of_tile(int64_t first, int64_t end) {
    return static_cast<int>(end - first < tile_rows ? end - first : tile_rows);
}

// partial [splits, batches, pairs, width]: d. The range is one of keys.
template <class Tile, class T>
__global__ void __launch_bounds__(Tile::threads) query_gradient_kernel(Product<T> p) {
    __shared__ typename Tile::Shared shared;
    const IndexerSizes& n = p.a.indexer.sizes;
    const int64_t b = blockIdx.z / p.splits, split = blockIdx.z % p.splits;
    const int64_t column = static_cast<int64_t>(blockIdx.x) * tile_rows, width = n.width;
    const int64_t pair = static_cast<int64_t>(blockIdx.y) * tile_rows;
    const int pairs = part_of_tile(pair, p.pairs()), columns = part_of_tile(column, width);
    const int64_t begin = split * p.range, seen = p.a.chunk.first + (pair + pairs - 1) / n.heads + 1;
    const int64_t end = begin + p.range < seen ? begin + p.range : seen;
    Tile tile;
    if (begin < end)
        tile.multiply(
            PairsByKeys<T>{p.gradient(b), static_cast<uint32_t>(pair), static_cast<uint32_t>(begin), pairs},
            TileOperand<T, true>{p.a.indexer.k + ((p.a.chunk.batch + b) * n.length + begin) * width + column,
                                 width, columns},
            end - begin, shared);
    T* out = p.partial + ((split * p.a.chunk.batches + b) * p.pairs() + pair) * width + column;
    tile.for_each([&](int i, int j, T value) {
        if (i < pairs && j < columns) out[i * width + j] = value;
    });
}

// One warp a pair: the dot product gathers g ReLU(x), since ReLU(x) = [x > 0] q . k.
template <class T>
__global__ void __launch_bounds__(128) finish_query_gradients(Product<T> p) {
    const int64_t width = p.a.indexer.sizes.width, all = p.a.chunk.batches * p.pairs();
    const int64_t row = static_cast<int64_t>(blockIdx.x) * 4 + threadIdx.x / warp_size;
    if (row >= all) return;
    const int64_t at = p.first_pair(row / p.pairs()) + row % p.pairs();
    const T scale = p.a.indexer.scale, weight = scale * p.a.indexer.w[at];
    T dot = 0;
    for (int64_t i = threadIdx.x % warp_size; i < width; i += warp_size) {
        T d = p.partial[row * width + i];
        for (int64_t split = 1; split < p.splits; ++split) d += p.partial[(split * all + row) * width + i];
        dot += p.a.indexer.q[at * width + i] * d;
        p.a.dq[at * width + i] = weight * d;
    }
    dot = warp_reduce(dot, Sum());
    if (threadIdx.x % warp_size == 0) p.a.dw[at] = scale * dot;
}

// partial [splits, batches, keys, width], where keys = first + rows are all that the chunk sees. The range is
// one of pairs.
template <class Tile, class T>
__global__ void __launch_bounds__(Tile::threads) key_gradient_kernel(Product<T> p) {
    __shared__ typename Tile::Shared shared;
    const IndexerSizes& n = p.a.indexer.sizes;
    const int64_t b = blockIdx.z / p.splits, split = blockIdx.z % p.splits;
    const int64_t column = static_cast<int64_t>(blockIdx.x) * tile_rows, width = n.width;
    const int64_t key = static_cast<int64_t>(blockIdx.y) * tile_rows,
                  all_keys = p.a.chunk.first + p.a.chunk.rows;
    const int keys = part_of_tile(key, all_keys), columns = part_of_tile(column, width);
    const int64_t seeing = key > p.a.chunk.first ? (key - p.a.chunk.first) * n.heads : 0;
    const int64_t begin = split * p.range > seeing ? split * p.range : seeing;
    const int64_t range_end = (split + 1) * p.range, end = range_end < p.pairs() ? range_end : p.pairs();
    const int64_t at = p.first_pair(b) + begin;
    Tile tile;
    if (begin < end)
        tile.multiply(
            KeysByPairs<T>{p.gradient(b), static_cast<uint32_t>(begin), static_cast<uint32_t>(key), keys},
            WeightedQueries<T>{p.a.indexer.q + at * width + column, p.a.indexer.w + at, p.a.indexer.scale,
                               static_cast<uint32_t>(width), columns},
            end - begin, shared);
    T* out = p.partial + ((split * p.a.chunk.batches + b) * all_keys + key) * width + column;
    tile.for_each([&](int i, int j, T value) {
        if (i < keys && j < columns) out[i * width + j] = value;
    });
}

template <class T>
void add_key_gradients(const Product<T>& p) {
    const int64_t width = p.a.indexer.sizes.width, keys = p.a.chunk.first + p.a.chunk.rows;
    const int64_t each = keys * width, all = p.a.chunk.batches * each,
                  next = p.a.indexer.sizes.length * width;
    T* dk = p.a.dk + p.a.chunk.batch * next;
    for_each_element(all, [=, partial = p.partial, splits = p.splits] __device__(int64_t i) {
        T sum = partial[i];
        for (int64_t split = 1; split < splits; ++split) sum += partial[split * all + i];
        dk[i / each * next + i % each] += sum;
    });
}

// Into how many ranges a sum of `depth` terms is split when `tiles` blocks would share the work without.
int64_t splits_of(int64_t tiles, int64_t depth) {
    constexpr int64_t wanted_blocks = 264, shortest = 256;
    return std::clamp<int64_t>(wanted_blocks / std::max<int64_t>(tiles, 1), 1,
                               (depth + shortest - 1) / shortest);
}

int64_t tiles_of(int64_t n) {
    return (n + tile_rows - 1) / tile_rows;
}

template <class T>
void query_gradients(Product<T> p) {
    const IndexerSizes& n = p.a.indexer.sizes;
    const int64_t pairs = p.a.chunk.rows * n.heads, batches = p.a.chunk.batches;
    const int64_t columns = tiles_of(n.width), keys = p.a.chunk.first + p.a.chunk.rows;
    p.splits = splits_of(columns * tiles_of(pairs) * batches, keys);
    p.range = (keys + p.splits - 1) / p.splits;
    const Tensor partial = Tensor::empty(Shape{p.splits, batches * pairs, n.width}, dtype_of<T>, device);
    p.partial = partial.template data<T>();
    with_tile<T>([&]<class Tile>() {
        launch_kernel(query_gradient_kernel<Tile, T>,
                      {.blocks = dim3(static_cast<unsigned>(columns), static_cast<unsigned>(tiles_of(pairs)),
                                      static_cast<unsigned>(batches * p.splits)),
                       .threads = dim3(Tile::threads)},
                      p);
    });
    launch_kernel(finish_query_gradients<T>,
                  {.blocks = dim3(blocks_for(batches * pairs, 4)), .threads = dim3(128)}, p);
}

template <class T>
void key_gradients(Product<T> p) {
    const IndexerSizes& n = p.a.indexer.sizes;
    const int64_t pairs = p.a.chunk.rows * n.heads, batches = p.a.chunk.batches;
    const int64_t columns = tiles_of(n.width), keys = p.a.chunk.first + p.a.chunk.rows;
    p.splits = splits_of(columns * tiles_of(keys) * batches, pairs);
    p.range = (pairs + p.splits - 1) / p.splits;
    const Tensor partial = Tensor::empty(Shape{p.splits, batches * keys, n.width}, dtype_of<T>, device);
    p.partial = partial.template data<T>();
    with_tile<T>([&]<class Tile>() {
        launch_kernel(key_gradient_kernel<Tile, T>,
                      {.blocks = dim3(static_cast<unsigned>(columns), static_cast<unsigned>(tiles_of(keys)),
                                      static_cast<unsigned>(batches * p.splits)),
                       .threads = dim3(Tile::threads)},
                      p);
    });
    add_key_gradients(p);
}

}  // namespace

ChunkLimits& chunk_limits() {
    static ChunkLimits limits;
    return limits;
}

template <class T>
void score_rows(const ScoreRows<T>& a) {
    bool done = false;
    if constexpr (std::is_same_v<T, float>)
        with_fragments(a.indexer.sizes.width,
                       [&]<class Shape>(Shape) { done = score_by_fragments<Shape>(a); });
    if (done) return;
    const int64_t keys = a.future ? a.indexer.sizes.length : a.chunk.first + a.chunk.rows;
    launch_kernel(
        score_rows_kernel<T>,
        {.blocks = dim3(blocks_for(keys, HeadTile<T>::keys), blocks_for(a.chunk.rows, HeadTile<T>::queries),
                        static_cast<unsigned>(a.chunk.batches)),
         .threads = dim3(HeadTile<T>::threads)},
        a);
}

template <class T>
void gradient_rows(const GradientRows<T>& a) {
    const Product<T> p{.a = a, .heads = Divisor(a.indexer.sizes.heads)};
    query_gradients(p);
    key_gradients(p);
}

template void score_rows(const ScoreRows<float>&);
template void score_rows(const ScoreRows<double>&);
template void gradient_rows(const GradientRows<float>&);
template void gradient_rows(const GradientRows<double>&);

}  // namespace sieve::cuda
