#include "framework/core/simd.h"
#include "framework/ops/indexer_kl/gather.h"
#include "framework/ops/indexer_kl/tiles.h"
#include "framework/ops/lightning_indexer/key_gradients.h"

namespace sieve::cpu {
namespace {

struct TileBlock {
    template <class T, int width>
    static SIEVE_INLINE void run(const ScoreBlock<T>& score, const TargetBlock<T>& target,
                                 const KlRows<T>& rows, T* z, const ScoreGradients<T>& gradients) {
        kl_block<T, width>(score, target, rows, z, gradients);
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
constexpr double gather_cost = 2.25;

// Gathering pays when all causal pairs are more than gather_cost times the selected ones. A function of the
// sizes only, so that the bits of the loss do not depend on the machine.
template <class T>
bool gathering_pays(const IndexerKlForward<T>& a) {
    const int64_t length = a.sizes.length, slots = a.slots;
    const int64_t selected = slots * (slots + 1) / 2 + (length - slots) * slots;
    return a.indices &&
           static_cast<double>(length * (length + 1) / 2) > gather_cost * static_cast<double>(selected);
}

// Keys in the forms that tiles or gathers read, for the whole batch.
template <class T>
struct PreparedKeys {
    explicit PreparedKeys(const IndexerKlForward<T>& a) : gather(gathering_pays(a)) {
        const int64_t batch = a.sizes.batch, length = a.sizes.length,
                      target_count = batch * a.target.key_heads;
        index_panels = all_panels(a.index_k, gather ? 0 : batch, length, a.sizes.width);
        index_rows = all_padded_rows(a.index_k, gather || a.dq ? batch : 0, length, a.sizes.width);
        target = gather ? all_padded_rows(a.target.k, target_count, length, a.target.width)
                        : all_panels(a.target.k, target_count, length, a.target.width);
    }
    bool gather;
    Tensor index_panels, index_rows, target;
};

// Queries [begin, end) of batch row b, block by block, over all keys; dk (or null) is added to.
template <class T>
void tile_queries(const IndexerKlForward<T>& a, const PreparedKeys<T>& keys, int64_t b, int64_t begin,
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
        run_best<TileBlock, T>(
            score_block(a.index_q, a.index_w, keys.index_panels, n, a.index_scale, b, t, stop),
            target_block(a.target, keys.target, n.length, b, t, stop), rows, z.template data<T>(),
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
            .k = keys.target.template data<T>() + rows * target.key_heads * target_wide,
            .lse = target.lse + rows * target.heads,
            .target_heads = target.heads,
            .key_heads = target.key_heads,
            .target_width = target.width,
            .length = n.length,
            .scale = static_cast<T>(target.scale),
            .weight = T(1) / static_cast<T>(n.batch * n.length),
            .indices = a.indices + rows * a.slots,
            .counts = a.counts + rows,
            .slots = a.slots,
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
                  stride = round_up(a.slots, lanes<T>) + lanes<T>;
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
    if (keys.gather)
        gather_range(a, keys, b, begin, end, dk, row_loss);
    else
        tile_queries(a, keys, b, begin, end, dk, row_loss);
}

}  // namespace

template <class T>
void indexer_kl_forward(const IndexerKlForward<T>& a) {
    const IndexerSizes& n = a.sizes;
    const PreparedKeys<T> keys(a);
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
