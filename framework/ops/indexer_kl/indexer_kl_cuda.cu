// Two ways, as on the CPU, chosen by the sizes alone:
//
//   tiles    all pairs of a chunk of query rows: scores and signs (attention/scores/score_rows.h), targets
//            (attention/target/target_rows.h), the loss and g = dLoss/dI of each row, gradients. The dense
//            loss, and selections that keep so many keys that this costs less. Memory O(T): the chunk's
//            [rows, T] scores, targets, signs.
//   gathers  the chosen pairs alone (attention/scores/gathered_scores.cuh and gathered_gradients.cuh,
//            attention/target/gathered_targets.cuh). Memory O(T k).
//
// A row (kl_row_kernel): a block of 128 threads walks three times over its scores: maximum, sum, loss and g.
// Sums of a row are in T; the mean over rows is one block's, in float64. The negentropy goes by tiles, without
// the targets. Deterministic.
//
// Medium preset, dense (B = 16, T = 128, HI = 4, dI = 64, H = 8, dh = 32): 0.27 GFLOP and 7 launches. T =
// 8192 with HI = 32, dI = 128, d = 256: 0.84 TFLOP dense, 22 ms on an H100 in float32 at 55 % of its 67
// TFLOP/s; with k = 512, gathered, 4.2 M pairs x 25 kFLOP = 0.10 TFLOP, 4 ms.
#include "framework/attention/scores/gathered_gradients.cuh"
#include "framework/attention/scores/gathered_scores.cuh"
#include "framework/attention/target/gathered_targets.cuh"
#include "framework/attention/target/target_rows.h"
#include "framework/core/allocator.h"
#include "framework/ops/indexer_kl/kernels.h"

namespace sieve::cuda {
namespace {

constexpr int row_threads = 128;

// Rows [batch row, query] of a chunk. Without a selection each has the keys 0..t; with one its chosen keys,
// which lie one after another (packed) or at the places of all keys.
template <class T>
struct KlRows {
    RowChunk chunk;
    ChosenKeys keys;  // indices are null without a selection
    bool packed;
    int64_t stride;  // from one row to the next of the three below
    const T* scores;
    const T* p;  // H times the target
    T* g;        // dLoss/dI, or null. May be p.
    T over_heads, weight;
    T* loss;  // [B,T]
};

template <class T>
__global__ void __launch_bounds__(row_threads) kl_row_kernel(KlRows<T> a) {
    __shared__ T scratch[warp_size];
    const int64_t local = blockIdx.x, t = a.chunk.first + local % a.chunk.rows;
    const int64_t row = (a.chunk.batch + local / a.chunk.rows) * a.keys.length + t;
    const bool selected = a.keys.given();
    const int count = selected ? a.keys.count(row) : static_cast<int>(t + 1);
    const T* scores = a.scores + local * a.stride;
    const T* p = a.p + local * a.stride;
    const auto place = [&](int i) { return selected && !a.packed ? a.keys.key(row, i) : i; };

    T largest = -static_cast<T>(INFINITY);
    for (int i = threadIdx.x; i < count; i += row_threads) largest = Max()(largest, scores[place(i)]);
    largest = block_reduce(largest, -static_cast<T>(INFINITY), Max(), scratch);
    T sum = 0;
    for (int i = threadIdx.x; i < count; i += row_threads) sum += exp(scores[place(i)] - largest);
    sum = block_reduce(sum, T(0), Sum(), scratch);
    // Not as one number: beside a large score the rounding of largest + log(sum) would be seen.
    const T log_sum = log(sum), over_sum = T(1) / sum;
    T loss = 0;
    for (int i = threadIdx.x; i < count; i += row_threads) {
        const int at = place(i);
        const T score = scores[at], target = p[at] * a.over_heads;
        // A target of exactly 0 contributes 0; NaN stays.
        if (target > T(0) || target != target) loss += target * (log(target) - ((score - largest) - log_sum));
        if (a.g) a.g[local * a.stride + at] = a.weight * (exp(score - largest) * over_sum - target);
    }
    loss = block_reduce(loss, T(0), Sum(), scratch);
    if (threadIdx.x == 0) a.loss[row] = loss;
}

template <class T>
void kl_rows(const KlRows<T>& a) {
    launch_kernel(
        kl_row_kernel<T>,
        {.blocks = dim3(static_cast<unsigned>(a.chunk.batches * a.chunk.rows)), .threads = dim3(row_threads)},
        a);
}

// A chunk's rows, of all keys 0..t. g takes the place of the scores.
template <class T>
struct NegentropyRows {
    RowChunk chunk;
    int64_t length;
    T* scores;  // [batches, rows, T]
    bool gradients;
    T weight;
    T* loss;  // [B,T]
};

// As the CPU's negentropy_row.
template <class T>
__global__ void __launch_bounds__(row_threads) negentropy_row_kernel(NegentropyRows<T> a) {
    __shared__ T scratch[warp_size];
    const int64_t local = blockIdx.x, t = a.chunk.first + local % a.chunk.rows;
    const int count = static_cast<int>(t + 1);
    T* scores = a.scores + local * a.length;
    T largest = -static_cast<T>(INFINITY);
    for (int i = threadIdx.x; i < count; i += row_threads) largest = Max()(largest, scores[i]);
    largest = block_reduce(largest, -static_cast<T>(INFINITY), Max(), scratch);
    T sum = 0, moment = 0;
    for (int i = threadIdx.x; i < count; i += row_threads) {
        const T e = exp(scores[i] - largest);
        sum += e;
        moment += e * (scores[i] - largest);
    }
    sum = block_reduce(sum, T(0), Sum(), scratch);
    moment = block_reduce(moment, T(0), Sum(), scratch);
    const T over_sum = T(1) / sum, mean = moment * over_sum;
    if (a.gradients)
        for (int i = threadIdx.x; i < count; i += row_threads) {
            const T d = scores[i] - largest;
            scores[i] = a.weight * (exp(d) * over_sum * (d - mean));
        }
    if (threadIdx.x == 0)
        a.loss[(a.chunk.batch + local / a.chunk.rows) * a.length + t] =
            mean - log(sum / static_cast<T>(count));
}

template <class T>
__global__ void __launch_bounds__(1024) mean_kernel(const T* losses, int64_t count, T* mean) {
    __shared__ double scratch[warp_size];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += static_cast<double>(losses[i]);
    sum = block_reduce(sum, 0.0, Sum(), scratch);
    if (threadIdx.x == 0) *mean = static_cast<T>(sum / static_cast<double>(count > 0 ? count : 1));
}

template <class T>
void mean_of_rows(const Tensor& row_loss, T* loss) {
    launch_kernel(mean_kernel<T>, {.blocks = dim3(1), .threads = dim3(1024)},
                  static_cast<const T*>(row_loss.data<T>()), row_loss.numel(), loss);
}

template <class T, template <class> class Args>
IndexerRows<T> indexer_of(const Args<T>& a) {
    return {.q = a.index_q,
            .k = a.index_k,
            .w = a.index_w,
            .sizes = a.sizes,
            .scale = static_cast<T>(a.index_scale)};
}

template <class T>
KlRows<T> kl_rows_of(const IndexerKlForward<T>& a, const RowChunk& chunk, T* row_loss) {
    return {.chunk = chunk,
            .keys = {a.keys, a.sizes.batch, a.sizes.length},
            .over_heads = T(1) / static_cast<T>(a.target.heads),
            .weight = T(1) / static_cast<T>(a.sizes.batch * a.sizes.length),
            .loss = row_loss};
}

template <class T>
void tile_chunk(const IndexerKlForward<T>& a, const RowChunk& chunk, T* row_loss) {
    const IndexerRows<T> indexer = indexer_of(a);
    const int64_t length = a.sizes.length, words = a.dq ? mask_words(a.sizes.heads) : 0;
    const Shape square{chunk.batches, chunk.rows, length};
    const Tensor scores = Tensor::empty(square, dtype_of<T>, device),
                 p = Tensor::empty(square, dtype_of<T>, device);
    const Tensor masks = Tensor::empty(Shape{chunk.batches, words, chunk.rows, length}, DType::int32, device);
    // Keys that were not chosen get no gradient, so then g cannot take the place of p.
    const Tensor g = a.dq && a.keys.indices ? Tensor::zeros(square, dtype_of<T>, device) : p;
    uint32_t* signs = a.dq ? static_cast<uint32_t*>(masks.raw()) : nullptr;
    score_rows(ScoreRows<T>{.indexer = indexer,
                            .chunk = chunk,
                            .scores = scores.template data<T>(),
                            .masks = signs,
                            .future = false});
    target_rows(TargetRows<T>{.attention = a.target,
                              .length = length,
                              .chunk = chunk,
                              .keys = {a.keys, a.sizes.batch, length},
                              .p = p.template data<T>()});
    KlRows<T> rows = kl_rows_of(a, chunk, row_loss);
    rows.stride = length;
    rows.scores = scores.template data<T>();
    rows.p = p.template data<T>();
    rows.g = a.dq ? g.template data<T>() : nullptr;
    kl_rows(rows);
    if (!a.dq) return;
    gradient_rows(GradientRows<T>{.indexer = indexer,
                                  .chunk = chunk,
                                  .g = rows.g,
                                  .g_batch = chunk.rows * length,
                                  .masks = signs,
                                  .dq = a.dq,
                                  .dw = a.dw,
                                  .dk = a.dk});
}

template <class T>
void negentropy_chunk(const IndexerNegentropyForward<T>& a, const RowChunk& chunk, T* row_loss) {
    const IndexerRows<T> indexer = indexer_of(a);
    const int64_t length = a.sizes.length, words = a.dq ? mask_words(a.sizes.heads) : 0;
    const Tensor scores = Tensor::empty(Shape{chunk.batches, chunk.rows, length}, dtype_of<T>, device);
    const Tensor masks = Tensor::empty(Shape{chunk.batches, words, chunk.rows, length}, DType::int32, device);
    uint32_t* signs = a.dq ? static_cast<uint32_t*>(masks.raw()) : nullptr;
    T* rows = scores.template data<T>();
    score_rows(
        ScoreRows<T>{.indexer = indexer, .chunk = chunk, .scores = rows, .masks = signs, .future = false});
    launch_kernel(
        negentropy_row_kernel<T>,
        {.blocks = dim3(static_cast<unsigned>(chunk.batches * chunk.rows)), .threads = dim3(row_threads)},
        NegentropyRows<T>{.chunk = chunk,
                          .length = length,
                          .scores = rows,
                          .gradients = a.dq != nullptr,
                          .weight = T(1) / static_cast<T>(a.sizes.batch * length),
                          .loss = row_loss});
    if (!a.dq) return;
    gradient_rows(GradientRows<T>{.indexer = indexer,
                                  .chunk = chunk,
                                  .g = rows,
                                  .g_batch = chunk.rows * length,
                                  .masks = signs,
                                  .dq = a.dq,
                                  .dw = a.dw,
                                  .dk = a.dk});
}

template <class T>
void gather_all(const IndexerKlForward<T>& a, T* row_loss) {
    const IndexerSizes& n = a.sizes;
    KlRows<T> rows = kl_rows_of(a, {0, n.batch, 0, n.length}, row_loss);
    const Shape pairs{n.batch, n.length, a.keys.slots};
    const Tensor scores = Tensor::empty(pairs, dtype_of<T>, device),
                 p = Tensor::empty(pairs, dtype_of<T>, device);
    const int64_t words = a.dq ? mask_words(n.heads) : 0;
    const Tensor masks = Tensor::empty(Shape{words, n.batch * n.length, a.keys.slots}, DType::int32, device);
    uint32_t* signs = a.dq ? static_cast<uint32_t*>(masks.raw()) : nullptr;
    gather_scores(rows.keys, GatheredScores<T>{indexer_of(a), signs}, scores.template data<T>());
    gather_targets(rows.keys, a.target, p.template data<T>());
    rows.packed = true;
    rows.stride = a.keys.slots;
    rows.scores = scores.template data<T>();
    rows.p = p.template data<T>();
    rows.g = a.dq ? p.template data<T>() : nullptr;
    kl_rows(rows);
    if (a.dq)
        gather_gradients(GatheredGradients<T>{indexer_of(a), rows.keys, rows.g, signs, a.dq, a.dw, a.dk});
}

// A gathered pair costs about as much as this many in tiles.
constexpr int64_t gather_cost = 4;

template <class T>
bool gathering_pays(const IndexerKlForward<T>& a) {
    const int64_t length = a.sizes.length, slots = a.keys.slots;
    const int64_t selected = slots * (slots + 1) / 2 + (length - slots) * slots;
    return a.keys.indices && slots > 0 && length * (length + 1) / 2 > gather_cost * selected;
}

}  // namespace

template <class T>
void indexer_kl_forward(const IndexerKlForward<T>& a) {
    const MemoryScope scope({"loss of the indexer", {SizeKind::batch, SizeKind::length}});
    const IndexerSizes& n = a.sizes;
    const Tensor row_loss = Tensor::empty({n.batch, n.length}, dtype_of<T>, device);
    T* losses = row_loss.template data<T>();
    if (a.dq) fill_zero(a.dk, n.batch * n.length * n.width * static_cast<int64_t>(sizeof(T)));
    if (gathering_pays(a))
        gather_all(a, losses);
    else
        for_row_chunks(n.batch, n.length, [&](const RowChunk& chunk) { tile_chunk(a, chunk, losses); });
    mean_of_rows(row_loss, a.loss);
}

template <class T>
void indexer_negentropy_forward(const IndexerNegentropyForward<T>& a) {
    const MemoryScope scope({"loss of the indexer", {SizeKind::batch, SizeKind::length}});
    const IndexerSizes& n = a.sizes;
    const Tensor row_loss = Tensor::empty({n.batch, n.length}, dtype_of<T>, device);
    if (a.dq) fill_zero(a.dk, n.batch * n.length * n.width * static_cast<int64_t>(sizeof(T)));
    for_row_chunks(n.batch, n.length,
                   [&](const RowChunk& chunk) { negentropy_chunk(a, chunk, row_loss.template data<T>()); });
    mean_of_rows(row_loss, a.loss);
}

template <class T>
void indexer_kl_backward(const IndexerKlBackward<T>& a) {
    for_each_element(a.nq + a.nk + a.nw, [a] __device__(int64_t i) {
        T* x = i < a.nq ? a.dq + i : i < a.nq + a.nk ? a.dk + (i - a.nq) : a.dw + (i - a.nq - a.nk);
        *x *= *a.dloss;
    });
}

template void indexer_kl_forward(const IndexerKlForward<float>&);
template void indexer_kl_forward(const IndexerKlForward<double>&);
template void indexer_negentropy_forward(const IndexerNegentropyForward<float>&);
template void indexer_negentropy_forward(const IndexerNegentropyForward<double>&);
template void indexer_kl_backward(const IndexerKlBackward<float>&);
template void indexer_kl_backward(const IndexerKlBackward<double>&);

}  // namespace sieve::cuda
