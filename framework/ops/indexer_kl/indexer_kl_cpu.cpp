#include <limits>

#include "framework/core/simd.h"
#include "framework/ops/indexer_kl/attention_target.h"
#include "framework/ops/lightning_indexer/key_gradients.h"

namespace sieve::cpu {
namespace {

// KL(p || softmax(scores)) of one row of n keys, and g = weight * (softmax(scores) - p). On entry p holds H
// p.
template <class T>
SIEVE_INLINE T kl_row(const T* __restrict scores, T* __restrict p, int64_t n, T over_heads, T weight,
                      T* __restrict g) {
    T largest = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : largest)
    for (int64_t s = 0; s < n; ++s) largest = scores[s] > largest ? scores[s] : largest;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t s = 0; s < n; ++s) {
        g[s] = loop_exp(scores[s] - largest);
        sum += g[s];
    }
    const T log_sum = largest + std::log(sum), over_sum = T(1) / sum;
    T loss = 0;
#pragma omp simd reduction(+ : loss)
    for (int64_t s = 0; s < n; ++s) {
        const T target = p[s] * over_heads;
        const T positive = target > std::numeric_limits<T>::min() ? target : std::numeric_limits<T>::min();
        const T term = target * (loop_log(positive) - (scores[s] - log_sum));
        loss += target > T(0) || target != target ? term : T(0);
        g[s] = weight * (g[s] * over_sum - target);
    }
    return loss;
}

// What the rows of a block read and write beside scores and target.
template <class T>
struct KlRows {
    const int32_t* indices;  // [T,slots] of this batch row, or null: all s <= t
    const int32_t* counts;   // [T], or null
    int64_t slots, row_stride;
    T over_heads, weight;
    T* scores;  // [queries, row_stride]
    T* p;       // [queries, row_stride], H times the target
    T* g;       // [queries, row_stride]
    T* packed;  // [3, slots]: the chosen scores, targets and gradients
    T* loss;    // [T], this batch row's
};

// The row restricted to its chosen keys; g is zero elsewhere.
template <class T>
SIEVE_INLINE T kl_chosen(const KlRows<T>& a, const int32_t* __restrict chosen, int64_t n,
                         const T* __restrict scores, const T* __restrict p, T* __restrict g) {
    T* __restrict packed_scores = a.packed;
    T* __restrict packed_p = a.packed + a.slots;
    T* __restrict packed_g = a.packed + 2 * a.slots;
    for (int64_t i = 0; i < n; ++i) {
        packed_scores[i] = scores[chosen[i]];
        packed_p[i] = p[chosen[i]];
    }
    const T loss = kl_row(packed_scores, packed_p, n, a.over_heads, a.weight, packed_g);
    std::fill(g, g + a.row_stride, T(0));
    for (int64_t i = 0; i < n; ++i) g[chosen[i]] = packed_g[i];
    return loss;
}

template <class T>
SIEVE_INLINE void kl_rows(const KlRows<T>& a, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
        const int64_t at = (t - begin) * a.row_stride, n = a.counts ? a.counts[t] : t + 1;
        if (n <= t) {
            a.loss[t] = kl_chosen(a, a.indices + t * a.slots, n, a.scores + at, a.p + at, a.g + at);
        } else {
            a.loss[t] = kl_row(a.scores + at, a.p + at, n, a.over_heads, a.weight, a.g + at);
            std::fill(a.g + at + n, a.g + at + a.row_stride, T(0));
        }
    }
}

template <class T>
SIEVE_INLINE void kl_block(const ScoreBlock<T>& score, const TargetBlock<T>& target, const KlRows<T>& rows,
                           T* z, const ScoreGradients<T>& gradients) {
    const bool wanted = gradients.dq != nullptr;
    score_rows(score, gradients.x, wanted, rows.scores, rows.row_stride);
    target_rows(target, z, rows.p, rows.row_stride);
    kl_rows(rows, score.begin, score.end);
    if (wanted) score_gradients(score, gradients);
}

SIEVE_CLONES void run_block(const ScoreBlock<float>& score, const TargetBlock<float>& target,
                            const KlRows<float>& rows, float* z, const ScoreGradients<float>& gradients) {
    kl_block(score, target, rows, z, gradients);
}
SIEVE_CLONES void run_block(const ScoreBlock<double>& score, const TargetBlock<double>& target,
                            const KlRows<double>& rows, double* z, const ScoreGradients<double>& gradients) {
    kl_block(score, target, rows, z, gradients);
}
SIEVE_CLONES void scale_by(float* x, int64_t begin, int64_t end, float factor) {
    for (int64_t i = begin; i < end; ++i) x[i] *= factor;
}
SIEVE_CLONES void scale_by(double* x, int64_t begin, int64_t end, double factor) {
    for (int64_t i = begin; i < end; ++i) x[i] *= factor;
}

// Keys in the forms that the tiles read, for the whole batch.
template <class T>
struct PackedKeys {
    explicit PackedKeys(const IndexerKlForward<T>& a)
        : index(all_panels(a.index_k, a.sizes.batch, a.sizes.length, a.sizes.width)),
          target(all_panels(a.target.k, a.sizes.batch * a.target.key_heads, a.sizes.length, a.target.width)),
          rows(all_padded_rows(a.index_k, a.dq ? a.sizes.batch : 0, a.sizes.length, a.sizes.width)) {}
    const Tensor index, target, rows;
};

// Queries [begin, end) of batch row b, block by block; dk (or null) is added to.
template <class T>
void run_queries(const IndexerKlForward<T>& a, const PackedKeys<T>& keys, int64_t b, int64_t begin,
                 int64_t end, T* dk, T* row_loss) {
    const IndexerSizes& n = a.sizes;
    const int64_t step = queries_per_block(n.heads);
    const GradientScratch<T> scratch(n, end, a.dq != nullptr);
    const Tensor p = Tensor::empty({step, scratch.row_stride()}, dtype_of<T>);
    const Tensor z = Tensor::empty({step, panel_width<T>}, dtype_of<T>);
    const Tensor packed = Tensor::empty({3, a.slots}, dtype_of<T>);
    const KlRows<T> rows{.indices = a.indices ? a.indices + b * n.length * a.slots : nullptr,
                         .counts = a.counts ? a.counts + b * n.length : nullptr,
                         .slots = a.slots,
                         .row_stride = scratch.row_stride(),
                         .over_heads = T(1) / static_cast<T>(a.target.heads),
                         .weight = T(1) / static_cast<T>(n.batch * n.length),
                         .scores = scratch.scores(),
                         .p = p.template data<T>(),
                         .g = scratch.g(),
                         .packed = packed.template data<T>(),
                         .loss = row_loss + b * n.length};
    for (int64_t t = begin; t < end; t += step) {
        const int64_t stop = std::min(end, t + step);
        run_block(score_block(a.index_q, a.index_w, keys.index, n, a.index_scale, b, t, stop),
                  target_block(a.target, keys.target, n.length, b, t, stop), rows, z.template data<T>(),
                  scratch.gradients(keys.rows, n, b, a.dq, a.dw, dk));
    }
}

}  // namespace

template <class T>
void indexer_kl_forward(const IndexerKlForward<T>& a) {
    const IndexerSizes& n = a.sizes;
    const PackedKeys<T> keys(a);
    const Tensor row_loss = Tensor::empty({n.batch, n.length}, dtype_of<T>);
    T* losses = row_loss.template data<T>();
    if (a.dq)
        sum_key_gradients(n.batch, n.length, n.width, queries_per_block(n.heads), a.dk,
                          [&](int64_t b, int64_t begin, int64_t end, T* dk) {
                              run_queries(a, keys, b, begin, end, dk, losses);
                          });
    else
        for_query_blocks(n, [&](int64_t b, int64_t begin, int64_t end) {
            run_queries(a, keys, b, begin, end, static_cast<T*>(nullptr), losses);
        });
    double sum = 0;
    for (int64_t i = 0; i < row_loss.numel(); ++i) sum += static_cast<double>(losses[i]);
    *a.loss = static_cast<T>(sum / static_cast<double>(std::max<int64_t>(row_loss.numel(), 1)));
}

template <class T>
void indexer_kl_backward(const IndexerKlBackward<T>& a) {
    const T factor = *a.dloss;
    if (factor == T(1)) return;
    const auto scale = [factor](T* x, int64_t n) {
        parallel_for(n, 1 << 15, [&](int64_t begin, int64_t end) { scale_by(x, begin, end, factor); });
    };
    scale(a.dq, a.nq);
    scale(a.dk, a.nk);
    scale(a.dw, a.nw);
}

template void indexer_kl_forward(const IndexerKlForward<float>&);
template void indexer_kl_forward(const IndexerKlForward<double>&);
template void indexer_kl_backward(const IndexerKlBackward<float>&);
template void indexer_kl_backward(const IndexerKlBackward<double>&);

}  // namespace sieve::cpu
