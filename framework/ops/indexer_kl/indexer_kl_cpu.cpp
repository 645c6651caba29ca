#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/attention/scores/gathered_dots.h"
#include "framework/attention/scores/key_gradients.h"
#include "framework/attention/target/target_block.h"
#include "framework/core/simd.h"
#include "framework/core/vector_math.h"
#include "framework/ops/indexer_kl/kernels.h"

namespace sieve::cpu {
namespace {

// ---- One row.

// KL(p || softmax(scores)) of one row of n keys, and g = weight * (softmax(scores) - p). On entry p holds H
// p.
template <class T>
SIEVE_INLINE T kl_row(const T* __restrict scores, const T* __restrict p, int64_t n, T over_heads, T weight,
                      T* __restrict g) {
    T largest = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : largest)
    for (int64_t s = 0; s < n; ++s) largest = scores[s] > largest ? scores[s] : largest;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t s = 0; s < n; ++s) {
        g[s] = simd_exp(scores[s] - largest);
        sum += g[s];
    }
    // Not as one number: beside a large score the rounding of largest + log(sum) would be seen.
    const T log_sum = std::log(sum), over_sum = T(1) / sum;
    T loss = 0;
#pragma omp simd reduction(+ : loss)
    for (int64_t s = 0; s < n; ++s) {
        const T target = p[s] * over_heads;
        const T positive = target > std::numeric_limits<T>::min() ? target : std::numeric_limits<T>::min();
        const T term = target * (loop_log(positive) - ((scores[s] - largest) - log_sum));
        loss += target > T(0) || target != target ? term : T(0);
        g[s] = weight * (g[s] * over_sum - target);
    }
    return loss;
}

// log n - H of softmax(scores) of one row of n keys, and g = weight * r (log r + H). With d = score - largest
// the latter is r (d - sum r d): nothing large cancels where the scores are nearly equal.
template <class T>
SIEVE_INLINE T negentropy_row(const T* __restrict scores, int64_t n, T weight, T* __restrict g) {
    T largest = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : largest)
    for (int64_t s = 0; s < n; ++s) largest = scores[s] > largest ? scores[s] : largest;
    T sum = 0, moment = 0;
#pragma omp simd reduction(+ : sum, moment)
    for (int64_t s = 0; s < n; ++s) {
        g[s] = simd_exp(scores[s] - largest);
        sum += g[s];
        moment += g[s] * (scores[s] - largest);
    }
    const T over_sum = T(1) / sum, mean = moment * over_sum;
#pragma omp simd
    for (int64_t s = 0; s < n; ++s) g[s] = weight * (g[s] * over_sum * ((scores[s] - largest) - mean));
    return mean - std::log(sum / static_cast<T>(n));
}

// ---- A block of queries by tiles over all keys s <= t: the dense loss, and selections that keep so many
// keys that computing all scores is cheaper than gathering the chosen ones.

// What the rows of a block read and write beside scores and target.
template <class T>
struct KlRows {
    SelectedKeys keys;  // of this batch row, or none: all s <= t
    int64_t row_stride;
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
    T* __restrict packed_p = a.packed + a.keys.slots;
    T* __restrict packed_g = a.packed + 2 * a.keys.slots;
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
        const int64_t at = (t - begin) * a.row_stride, n = a.keys.counts ? a.keys.counts[t] : t + 1;
        if (n <= t) {
            a.loss[t] = kl_chosen(a, a.keys.indices + t * a.keys.slots, n, a.scores + at, a.p + at, a.g + at);
        } else {
            a.loss[t] = kl_row(a.scores + at, a.p + at, n, a.over_heads, a.weight, a.g + at);
            std::fill(a.g + at + n, a.g + at + a.row_stride, T(0));
        }
    }
}

template <class T, int width>
SIEVE_INLINE void kl_block(const ScoreBlock<T>& score, const TargetBlock<T>& target, const KlRows<T>& rows,
                           const TargetScratch<T>& scratch, const ScoreGradients<T>& gradients) {
    const bool wanted = gradients.dq != nullptr;
    score_rows<T, width>(score, gradients.x, wanted, rows.scores, rows.row_stride);
    target_rows<T, width>(target, scratch, rows.p, rows.row_stride);
    kl_rows(rows, score.begin, score.end);
    if (wanted) score_gradients<T, width>(score, gradients);
}

// ---- The same without a target.

template <class T>
struct NegentropyRows {
    int64_t row_stride;
    T weight;
    T* scores;  // [queries, row_stride]
    T* g;       // [queries, row_stride]
    T* loss;    // [T], this batch row's
};

struct NegentropyBlock {
    template <class T, int width>
    static SIEVE_INLINE void run(const ScoreBlock<T>& score, const NegentropyRows<T>& a,
                                 const ScoreGradients<T>& gradients) {
        const bool wanted = gradients.dq != nullptr;
        score_rows<T, width>(score, gradients.x, wanted, a.scores, a.row_stride);
        for (int64_t t = score.begin; t < score.end; ++t) {
            const int64_t at = (t - score.begin) * a.row_stride;
            a.loss[t] = negentropy_row(a.scores + at, t + 1, a.weight, a.g + at);
            std::fill(a.g + at + t + 1, a.g + at + a.row_stride, T(0));
        }
        if (wanted) score_gradients<T, width>(score, gradients);
    }
};

// ---- One query by gathering its chosen keys: O(k) work, for sequences much longer than k. Keys lie as
// padded rows; gradients are tile products whose key rows are found through the selected indices.

// Everything that the queries of one batch row read and write.
template <class T>
struct GatherRows {
    const T* index_q;      // [T,HI,dI]
    const T* index_w;      // [T,HI]
    const T* index_k;      // [T, wide]: padded rows
    int64_t heads, width;  // HI, dI
    T index_scale;
    const T* q;  // [H,T,dh]
    const T* k;  // [G,T, target wide]: padded rows
    int64_t target_heads, key_heads, target_width, length;
    T scale, weight;
    const T* weight_sums;  // [T,slots], H p, or null: computed from q and k
    SelectedKeys keys;
    T* loss;  // [T]
    T* dq;    // [T,HI,dI], or null: no gradients wanted
    T* dw;    // [T,HI]
    T* dk;    // [T, wide]: added to
};

// Scratch; n stands for stride: slots rounded up and a vector more.
template <class T>
struct GatherScratch {
    T* x;         // [HI, n]
    T* z;         // [H / G, n]
    T* scores;    // [n]
    T* p;         // [gather_block, n]
    T* g;         // [n]
    T* q;         // [HI, wide]: padded indexer queries
    T* target_q;  // [H / G, target wide]: padded queries of one group of heads
    T* d;         // [HI, wide]
    int64_t stride;
};

// Queries whose targets are computed together, one head after another: the keys of one head stay in the L2
// cache meanwhile, where those of all heads would not.
constexpr int64_t gather_block = 64;

// H p of the chosen keys of queries [begin, end).
template <class T, int width>
SIEVE_INLINE void gather_targets(const GatherRows<T>& a, int64_t begin, int64_t end,
                                 const GatherScratch<T>& s) {
    const int64_t wide = round_up(a.target_width, lanes<T>), group = a.target_heads / a.key_heads;
    for (int64_t key_head = 0; key_head < a.key_heads; ++key_head)
        for (int64_t t = begin; t < end; ++t) {
            const int64_t n = a.keys.counts[t];
            for (int64_t r = 0; r < group; ++r)
                pad_rows(a.q + ((key_head * group + r) * a.length + t) * a.target_width, 1, a.target_width,
                         s.target_q + r * wide);
            gather_dots_of<T, width>(s.target_q, group, a.k + key_head * a.length * wide, wide,
                                     a.keys.indices + t * a.keys.slots, n, s.z, s.stride);
            for (int64_t r = 0; r < group; ++r)
                add_probabilities(s.z + r * s.stride, n, a.scale, key_head + r > 0,
                                  s.p + (t - begin) * s.stride);
        }
}

template <class T, int width>
SIEVE_INLINE void gather_scores(const GatherRows<T>& a, int64_t t, int64_t n, const GatherScratch<T>& s) {
    const int64_t wide = round_up(a.width, lanes<T>);
    pad_rows(a.index_q + t * a.heads * a.width, a.heads, a.width, s.q);
    gather_dots_of<T, width>(s.q, a.heads, a.index_k, wide, a.keys.indices + t * a.keys.slots, n, s.x,
                             s.stride);
    std::fill(s.scores, s.scores + n, T(0));
    for (int64_t j = 0; j < a.heads; ++j) {
        const T w = a.index_scale * a.index_w[t * a.heads + j];
        const T* __restrict x = s.x + j * s.stride;
        T* __restrict scores = s.scores;
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) scores[i] += w * (x[i] < T(0) ? T(0) : x[i]);
    }
}

//   d[j]   = sum_i [x>0] g[i] k[i]                    dq = scale w d,   dw = scale q.d
//   dk[i] += sum_j [x>0] g[i] (scale w[j] q[j])
template <class T, int width>
SIEVE_INLINE void gather_gradients(const GatherRows<T>& a, int64_t t, int64_t n, const GatherScratch<T>& s) {
    const int64_t wide = round_up(a.width, lanes<T>);
    const int32_t* chosen = a.keys.indices + t * a.keys.slots;
    for (int64_t j = 0; j < a.heads; ++j) {
        T* __restrict x = s.x + j * s.stride;
        const T* __restrict g = s.g;
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) x[i] = x[i] > T(0) ? g[i] : T(0);
    }
    tile_product<T, width>(TileProduct<T>{.a = s.x,
                                          .a_row = s.stride,
                                          .a_step = 1,
                                          .b = a.index_k,
                                          .ldb = wide,
                                          .c = s.d,
                                          .ldc = wide,
                                          .rows = a.heads,
                                          .cols = wide,
                                          .depth = n,
                                          .start = TileStart::zero,
                                          .b_rows = chosen});
    for (int64_t j = 0; j < a.heads; ++j) {
        const int64_t row = t * a.heads + j;
        const T weight = a.index_scale * a.index_w[row];
        T dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < wide; ++i) {
            dot += s.q[j * wide + i] * s.d[j * wide + i];
            s.q[j * wide + i] *= weight;
        }
        a.dw[row] = a.index_scale * dot;
        for (int64_t i = 0; i < a.width; ++i) a.dq[row * a.width + i] = weight * s.d[j * wide + i];
    }
    tile_product<T, width>(TileProduct<T>{.a = s.x,
                                          .a_row = 1,
                                          .a_step = s.stride,
                                          .b = s.q,
                                          .ldb = wide,
                                          .c = a.dk,
                                          .ldc = wide,
                                          .rows = n,
                                          .cols = wide,
                                          .depth = a.heads,
                                          .start = TileStart::add,
                                          .c_rows = chosen});
}

template <class T, int width>
SIEVE_INLINE void gather_queries(const GatherRows<T>& a, const GatherScratch<T>& s, int64_t begin,
                                 int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
        if (!a.weight_sums && (t - begin) % gather_block == 0)
            gather_targets<T, width>(a, t, std::min(end, t + gather_block), s);
        const int64_t n = a.keys.counts[t];
        const T* p =
            a.weight_sums ? a.weight_sums + t * a.keys.slots : s.p + (t - begin) % gather_block * s.stride;
        gather_scores<T, width>(a, t, n, s);
        a.loss[t] = kl_row(s.scores, p, n, T(1) / static_cast<T>(a.target_heads), a.weight, s.g);
        if (a.dq) gather_gradients<T, width>(a, t, n, s);
    }
}

// ---- The whole batch.

struct TileBlock {
    template <class T, int width>
    static SIEVE_INLINE void run(const ScoreBlock<T>& score, const TargetBlock<T>& target,
                                 const KlRows<T>& rows, const TargetScratch<T>& scratch,
                                 const ScoreGradients<T>& gradients) {
        kl_block<T, width>(score, target, rows, scratch, gradients);
    }
};

struct GatherQueries {
    template <class T, int width>
    static SIEVE_INLINE void run(const GatherRows<T>& a, const GatherScratch<T>& s, int64_t begin,
                                 int64_t end) {
        gather_queries<T, width>(a, s, begin, end);
    }
};

SIEVE_CLONES void scale_by(float* x, int64_t begin, int64_t end, float factor) {
    for (int64_t i = begin; i < end; ++i) x[i] *= factor;
}
SIEVE_CLONES void scale_by(double* x, int64_t begin, int64_t end, double factor) {
    for (int64_t i = begin; i < end; ++i) x[i] *= factor;
}

// A gathered pair of query and key costs about as much as this many pairs in tiles.
constexpr int64_t gather_cost = 2;

// The rows before this one, whole blocks of them, are computed by tiles over all their keys, the others by
// gathering the chosen ones. A function of the sizes only, so that the bits of the loss do not depend on the
// machine. Weights that were kept decide for their rows: there, gathering is cheaper still.
template <class T>
int64_t tiled_rows(const IndexerKlForward<T>& a) {
    const int64_t length = a.sizes.length;
    if (!a.keys.indices) return length;
    const int64_t cheaper = std::max(gather_cost * a.keys.slots, a.weight_sums ? a.weights_from : 0);
    return std::min(length, round_up(cheaper, queries_per_block(a.sizes.heads)));
}

// Keys in the forms that tiles or gathers read, for the whole batch.
template <class T>
struct PreparedKeys {
    explicit PreparedKeys(const IndexerKlForward<T>& a) : tiled(tiled_rows(a)) {
        const int64_t batch = a.sizes.batch, length = a.sizes.length,
                      target_count = batch * a.target.key_heads;
        const bool gather = tiled < length;
        const bool tiles = tiled > 0;
        index_panels = all_panels(a.index_k, tiles ? batch : 0, length, a.sizes.width);
        index_rows = all_padded_rows(a.index_k, gather || a.dq ? batch : 0, length, a.sizes.width);
        target_panels = all_panels(a.target.k, tiles ? target_count : 0, length, a.target.width);
        target_rows =
            all_padded_rows(a.target.k, gather && !a.weight_sums ? target_count : 0, length, a.target.width);
    }
    int64_t tiled;
    Tensor index_panels, index_rows, target_panels, target_rows;
};

// Queries [begin, end) of batch row b, block by block, over all keys; dk (or null) is added to.
template <class T>
void tile_queries(const IndexerKlForward<T>& a, const PreparedKeys<T>& keys, int64_t b, int64_t begin,
                  int64_t end, T* dk, T* row_loss) {
    const IndexerSizes& n = a.sizes;
    const int64_t step = queries_per_block(n.heads);
    const GradientScratch<T> scratch(n, end, a.dq != nullptr);
    const Tensor p = Tensor::empty({step, scratch.row_stride()}, dtype_of<T>);
    const TargetRoom<T> room(step, end, a.keys.indices != nullptr);
    const Tensor packed = Tensor::empty({3, a.keys.slots}, dtype_of<T>);
    const KlRows<T> rows{.keys = a.keys.from_row(b * n.length),
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
        run_best<TileBlock, T>(
            score_block(a.index_q, a.index_w, keys.index_panels, n, a.index_scale, b, t, stop),
            target_block(a.target, keys.target_panels, a.keys, n.length, b, t, stop), rows, room.scratch(),
            scratch.gradients(keys.index_rows, n, b, a.dq, a.dw, dk));
    }
}

template <class T>
GatherRows<T> gather_rows(const IndexerKlForward<T>& a, const PreparedKeys<T>& keys, int64_t b, T* dk,
                          T* row_loss) {
    const IndexerSizes& n = a.sizes;
    const AttentionTarget<T>& target = a.target;
    const int64_t rows = b * n.length, target_wide = round_up(target.width, lanes<T>);
    return {.index_q = a.index_q + rows * n.heads * n.width,
            .index_w = a.index_w + rows * n.heads,
            .index_k = keys.index_rows.template data<T>() + rows * round_up(n.width, lanes<T>),
            .heads = n.heads,
            .width = n.width,
            .index_scale = static_cast<T>(a.index_scale),
            .q = target.q + rows * target.heads * target.width,
            .k = a.weight_sums ? nullptr
                               : keys.target_rows.template data<T>() + rows * target.key_heads * target_wide,
            .target_heads = target.heads,
            .key_heads = target.key_heads,
            .target_width = target.width,
            .length = n.length,
            .scale = static_cast<T>(target.scale),
            .weight = T(1) / static_cast<T>(n.batch * n.length),
            .weight_sums = a.weight_sums ? a.weight_sums + rows * a.keys.slots : nullptr,
            .keys = a.keys.from_row(rows),
            .loss = row_loss + rows,
            .dq = a.dq ? a.dq + rows * n.heads * n.width : nullptr,
            .dw = a.dw ? a.dw + rows * n.heads : nullptr,
            .dk = dk};
}

// The same with gathers.
template <class T>
void gather_range(const IndexerKlForward<T>& a, const PreparedKeys<T>& keys, int64_t b, int64_t begin,
                  int64_t end, T* dk, T* row_loss) {
    const int64_t wide = round_up(a.sizes.width, lanes<T>), target_wide = round_up(a.target.width, lanes<T>);
    const int64_t group = a.target.heads / a.target.key_heads,
                  stride = round_up(a.keys.slots, lanes<T>) + lanes<T>;
    const Tensor rows = Tensor::empty({a.sizes.heads + group + 2 + gather_block, stride}, dtype_of<T>);
    const Tensor vectors = Tensor::empty({2 * a.sizes.heads * wide + group * target_wide}, dtype_of<T>);
    T* row = rows.template data<T>();
    T* vector = vectors.template data<T>();
    run_best<GatherQueries, T>(gather_rows(a, keys, b, dk, row_loss),
                               GatherScratch<T>{.x = row + 2 * stride,
                                                .z = row + (2 + a.sizes.heads) * stride,
                                                .scores = row,
                                                .p = row + (2 + a.sizes.heads + group) * stride,
                                                .g = row + stride,
                                                .q = vector,
                                                .target_q = vector + 2 * a.sizes.heads * wide,
                                                .d = vector + a.sizes.heads * wide,
                                                .stride = stride},
                               begin, end);
}

template <class T>
void run_queries(const IndexerKlForward<T>& a, const PreparedKeys<T>& keys, int64_t b, int64_t begin,
                 int64_t end, T* dk, T* row_loss) {
    const int64_t border = std::clamp(keys.tiled, begin, end);
    if (begin < border) tile_queries(a, keys, b, begin, border, dk, row_loss);
    if (border < end) gather_range(a, keys, b, border, end, dk, row_loss);
}

// The mean over all rows of the losses that run(b, begin, end, dk, losses) writes for ranges of queries; what
// it adds to its dk (null unless gradients are wanted) ends up in args.dk.
template <class T, class Args, class F>
T mean_loss(const Args& args, F&& run) {
    const IndexerSizes& n = args.sizes;
    const Tensor row_loss = Tensor::empty({n.batch, n.length}, dtype_of<T>);
    T* losses = row_loss.template data<T>();
    if (args.dq)
        sum_key_gradients(
            n.batch, n.length, n.width, queries_per_block(n.heads), args.dk,
            [&](int64_t b, int64_t begin, int64_t end, T* dk) { run(b, begin, end, dk, losses); });
    else
        for_query_blocks(n, [&](int64_t b, int64_t begin, int64_t end) {
            run(b, begin, end, static_cast<T*>(nullptr), losses);
        });
    double sum = 0;
    for (int64_t i = 0; i < row_loss.numel(); ++i) sum += static_cast<double>(losses[i]);
    return static_cast<T>(sum / static_cast<double>(std::max<int64_t>(row_loss.numel(), 1)));
}

}  // namespace

template <class T>
void indexer_kl_forward(const IndexerKlForward<T>& a) {
    const PreparedKeys<T> keys(a);
    *a.loss = mean_loss<T>(a, [&](int64_t b, int64_t begin, int64_t end, T* dk, T* losses) {
        run_queries(a, keys, b, begin, end, dk, losses);
    });
}

template <class T>
void indexer_negentropy_forward(const IndexerNegentropyForward<T>& a) {
    const IndexerSizes& n = a.sizes;
    const int64_t step = queries_per_block(n.heads);
    const Tensor panels = all_panels(a.index_k, n.batch, n.length, n.width);
    const Tensor key_rows = all_padded_rows(a.index_k, a.dq ? n.batch : 0, n.length, n.width);
    *a.loss = mean_loss<T>(a, [&](int64_t b, int64_t begin, int64_t end, T* dk, T* losses) {
        const GradientScratch<T> scratch(n, end, a.dq != nullptr);
        const NegentropyRows<T> rows{.row_stride = scratch.row_stride(),
                                     .weight = T(1) / static_cast<T>(n.batch * n.length),
                                     .scores = scratch.scores(),
                                     .g = scratch.g(),
                                     .loss = losses + b * n.length};
        for (int64_t t = begin; t < end; t += step)
            run_best<NegentropyBlock, T>(
                score_block(a.index_q, a.index_w, panels, n, a.index_scale, b, t, std::min(end, t + step)),
                rows, scratch.gradients(key_rows, n, b, a.dq, a.dw, dk));
    });
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
template void indexer_negentropy_forward(const IndexerNegentropyForward<float>&);
template void indexer_negentropy_forward(const IndexerNegentropyForward<double>&);
template void indexer_kl_backward(const IndexerKlBackward<float>&);
template void indexer_kl_backward(const IndexerKlBackward<double>&);

}  // namespace sieve::cpu
