// Blocks of queries, whose probabilities are made by attention/target/target_block.h and then ranked row by
// row. A new token is a block of one query, and goes the same way: so its bits are those of the whole text's.
#include "framework/attention/selection/select_room.h"
#include "framework/attention/target/target_block.h"
#include "framework/core/simd.h"
#include "framework/ops/attention_select/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t block_queries = 32;

// The rows of one batch row, from the block's first query on.
struct ChosenRows {
    int32_t* indices;
    int32_t* counts;
    int64_t slots;
};

template <class T>
struct ChoiceScratch {
    TargetScratch<T> target;
    T* p;  // [block_queries, row_stride]
    int64_t row_stride;
    SelectScratch<T> select;
};

struct ChooseBlock {
    // The first query with a NaN, or -1.
    template <class T, int width>
    static SIEVE_INLINE void run(const TargetBlock<T>& a, const ChosenRows& rows, const ChoiceScratch<T>& s,
                                 int64_t* bad_query) {
        if (a.end > rows.slots) target_rows<T, width>(a, s.target, s.p, s.row_stride);
        *bad_query = -1;
        for (int64_t t = a.end - 1; t >= a.begin; --t) {
            const int64_t row = t - a.begin;
            if (!select_into(s.p + row * s.row_stride, t + 1, rows.slots, s.select,
                             rows.indices + row * rows.slots, rows.counts + row))
                *bad_query = t;
        }
    }
};

template <class T>
int64_t choose_block(const TargetBlock<T>& a, const ChosenRows& rows) {
    const int64_t queries = a.end - a.begin, row_stride = score_stride<T>(a.end);
    const TargetRoom<T> room(queries, a.end, false);
    const Tensor p = Tensor::empty({queries, row_stride}, dtype_of<T>);
    const SelectRoom<T> select(row_stride);
    int64_t bad_query = -1;
    run_best<ChooseBlock, T>(
        a, rows, ChoiceScratch<T>{room.scratch(), p.template data<T>(), row_stride, select.scratch()},
        &bad_query);
    return bad_query;
}

}  // namespace

template <class T>
void attention_select(const AttentionSelect<T>& a) {
    const int64_t blocks = (a.length + block_queries - 1) / block_queries;
    const AttentionTarget<T>& n = a.attention;
    const Tensor panels = all_panels(n.k, a.batch * n.key_heads, a.length, n.width);
    LowestRow lowest_bad;
    parallel_tasks(a.batch * blocks, [&](int64_t task) {
        const int64_t b = task % a.batch, begin = (blocks - 1 - task / a.batch) * block_queries;
        const int64_t end = std::min(a.length, begin + block_queries), row = b * a.length + begin;
        const int64_t bad = choose_block(target_block(n, panels, SelectedKeys{}, a.length, b, begin, end),
                                         {a.indices + row * a.slots, a.counts + row, a.slots});
        if (bad >= 0) lowest_bad.note(b * a.length + bad);
    });
    *a.bad_row = lowest_bad.get();
}

template <class T>
void attention_select_next(const AttentionSelectNext<T>& a) {
    const AttentionTarget<T>& n = a.attention;
    const int64_t panel_stride = a.panels_each * n.width * panel_width<T>;
    *a.bad_row = -1;
    for (int64_t b = a.batch - 1; b >= 0; --b) {
        const int64_t bad = choose_block(TargetBlock<T>{.q = n.q + b * n.heads * n.width,
                                                        .k_panels = n.k + b * n.key_heads * panel_stride,
                                                        .panel_stride = panel_stride,
                                                        .heads = n.heads,
                                                        .key_heads = n.key_heads,
                                                        .width = n.width,
                                                        .first = a.length - 1,
                                                        .queries = 1,
                                                        .scale = static_cast<T>(n.scale),
                                                        .keys = {},
                                                        .begin = a.length - 1,
                                                        .end = a.length},
                                         {a.indices + b * a.slots, a.counts + b, a.slots});
        if (bad >= 0) *a.bad_row = b;
    }
}

#define SIEVE_INSTANTIATE(T)                                   \
    template void attention_select(const AttentionSelect<T>&); \
    template void attention_select_next(const AttentionSelectNext<T>&);
SIEVE_INSTANTIATE(float)
SIEVE_INSTANTIATE(double)
#undef SIEVE_INSTANTIATE

}  // namespace sieve::cpu
