#include "framework/attention/scores/head_overlap.h"

#include <cmath>
#include <vector>

#include "framework/attention/scores/indexer_panels.h"
#include "framework/attention/scores/indexer_tensors.h"
#include "framework/attention/selection/select_row.h"

namespace sieve {
namespace {

using cpu::OrderKey;

// Of one query with a choice; means over the pairs of heads, or over the heads.
struct QueryOverlap {
    double overlap = 0, most = 0, decided = 0, chance = 0;
};

// What the queries of a block read and write beside their products.
template <class T>
struct HeadRows {
    T* x;                // one tile of products
    T* parts;            // [queries, heads, row_stride]: c
    OrderKey<T>* order;  // [row_stride]
    double* together;    // [row_stride]: pi of all heads added up
    int64_t row_stride;
    const int32_t* counts;  // [T], this batch row's
    QueryOverlap* out;      // [T]
    T sign;                 // of the scores' scale: its size ranks nothing
};

// c of every head, of all keys s < block.end.
template <class T, int width>
SIEVE_INLINE void head_parts(const cpu::ScoreBlock<T>& block, const HeadRows<T>& a) {
    constexpr int64_t panel = cpu::panel_width<T>;
    for (int64_t c = 0; c < cpu::panel_count<T>(block.end); ++c) {
        cpu::dot_panel<T, width>(block, c, a.x);
        for (int64_t r = 0; r < block.rows(); ++r) {
            const T w = a.sign * block.w[block.begin * block.heads + r];
            const T* __restrict x = a.x + r * panel;
            T* __restrict part = a.parts + r * a.row_stride + c * panel;
#pragma omp simd
            for (int64_t s = 0; s < panel; ++s) part[s] = w * (x[s] < T(0) ? T(0) : x[s]);
        }
    }
}

// Adds one head's pi to a.together and returns the sum of its squares; NaN when a part is.
template <class T>
SIEVE_INLINE double add_head(const T* part, int64_t keys, int64_t n, const HeadRows<T>& a) {
    if (!cpu::order_keys(part, keys, a.order)) return NAN;
    bool exact = false;
    const OrderKey<T> bound = cpu::threshold(a.order, keys, n, exact),
                      above = bound + OrderKey<T>(exact ? 0 : 1);
    const auto sure = static_cast<double>(cpu::count_at_least(a.order, keys, above));
    const double tied = static_cast<double>(cpu::count_at_least(a.order, keys, bound)) - sure;
    const double share = exact ? 0 : (static_cast<double>(n) - sure) / tied;
    const OrderKey<T>* __restrict order = a.order;
    double* __restrict together = a.together;
    for (int64_t s = 0; s < keys; ++s) together[s] += order[s] >= above ? 1 : order[s] >= bound ? share : 0;
    return sure + tied * share * share;
}

// The sums over pairs of heads follow from those over heads: sum_(i != j) x_i x_j = (sum x)^2 - sum x^2.
template <class T>
SIEVE_INLINE QueryOverlap query_overlap(const T* parts, int64_t heads, int64_t keys, int64_t n,
                                        const HeadRows<T>& a) {
    std::fill(a.together, a.together + keys, 0.0);
    double squares = 0, roots = 0, all = 0;
    for (int64_t j = 0; j < heads; ++j) {
        const double own = add_head(parts + j * a.row_stride, keys, n, a);
        squares += own;
        roots += std::sqrt(own);
    }
    for (int64_t s = 0; s < keys; ++s) all += a.together[s] * a.together[s];
    const auto count = static_cast<double>(heads), slots = static_cast<double>(n);
    const double pairs = count * (count - 1) * slots;
    return {.overlap = (all - squares) / pairs,
            .most = (roots * roots - squares) / pairs,
            .decided = squares / (count * slots),
            .chance = slots / static_cast<double>(keys)};
}

struct OverlapBlock {
    template <class T, int width>
    static SIEVE_INLINE void run(const cpu::ScoreBlock<T>& block, const HeadRows<T>& a) {
        if (a.counts[block.end - 1] >= block.end) return;  // no query here has a choice
        head_parts<T, width>(block, a);
        for (int64_t t = block.begin; t < block.end; ++t)
            if (a.counts[t] <= t)
                a.out[t] = query_overlap(a.parts + (t - block.begin) * block.heads * a.row_stride,
                                         block.heads, t + 1, a.counts[t], a);
    }
};

template <class T>
std::vector<QueryOverlap> query_overlaps(const IndexerOperands& indexer, const Tensor& counts) {
    const Tensor q = indexer.q.to(Device{}), k = indexer.k.to(Device{}), w = indexer.w.to(Device{});
    const IndexerSizes n = indexer_sizes(q);
    const Tensor panels = cpu::all_panels(k.data<T>(), n.batch, n.length, n.width);
    std::vector<QueryOverlap> result(static_cast<size_t>(n.batch * n.length));
    cpu::for_query_blocks(n, [&](int64_t b, int64_t begin, int64_t end) {
        const int64_t rows = (end - begin) * n.heads, row_stride = cpu::score_stride<T>(end);
        const Tensor x = Tensor::empty({rows, cpu::panel_width<T>}, dtype_of<T>);
        const Tensor parts = Tensor::empty({rows, row_stride}, dtype_of<T>);
        std::vector<OrderKey<T>> order(static_cast<size_t>(row_stride));
        std::vector<double> together(static_cast<size_t>(row_stride));
        cpu::run_best<OverlapBlock, T>(
            cpu::score_block(q.data<T>(), w.data<T>(), panels, n, indexer.scale, b, begin, end),
            HeadRows<T>{.x = x.template data<T>(),
                        .parts = parts.template data<T>(),
                        .order = order.data(),
                        .together = together.data(),
                        .row_stride = row_stride,
                        .counts = counts.data<int32_t>() + b * n.length,
                        .out = result.data() + b * n.length,
                        .sign = indexer.scale < 0 ? T(-1) : T(1)});
    });
    return result;
}

double above_chance(double value, double chance, double most) {
    constexpr double least_room = 1e-6;  // below it is rounding
    return most - chance > least_room ? (value - chance) / (most - chance) : NAN;
}

}  // namespace

HeadOverlap head_overlap(const IndexerOperands& indexer, const Selection& selection) {
    constexpr const char* op = "head_overlap";
    check_indexer(op, indexer);
    check_shape(op, "counts", selection.counts, Shape{indexer.q.dim(0), indexer.q.dim(1)},
                "indexer q is " + to_string(indexer.q.shape()));
    if (indexer.q.dim(2) < 2) return {};
    const Tensor counts = selection.counts.to(Device{});
    const std::vector<QueryOverlap> queries =
        dispatch_float(op, indexer.q.dtype(), [&]<class T>() { return query_overlaps<T>(indexer, counts); });
    QueryOverlap sum;
    double choices = 0;
    for (const QueryOverlap& query : queries) {
        if (query.chance == 0) continue;  // no choice
        sum.overlap += query.overlap, sum.most += query.most;
        sum.decided += query.decided, sum.chance += query.chance;
        choices += 1;
    }
    if (choices == 0) return {};
    const double chance = sum.chance / choices;
    return {.above_chance = above_chance(sum.overlap / choices, chance, sum.most / choices),
            .decided = (sum.decided / choices - chance) / (1 - chance)};
}

}  // namespace sieve
