#include "framework/attention/scores/query_row_cpu.h"
#include "framework/attention/selection/select_room.h"
#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/ops/block_select/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t products_a_thread = 1 << 16;

// One thread's room for a row.
template <class T>
struct RowScratch {
    T* scores;        // of the past blocks
    int32_t* chosen;  // the best of them
    SelectScratch<T> select;
};

// The past blocks that a row reads, ascending. False when a score is NaN.
template <class T>
SIEVE_INLINE bool choose_blocks(const BlockSelect<T>& a, int64_t b, int64_t i, const BlockRow& row,
                                const RowScratch<T>& s) {
    if (row.chosen > 0 && row.chosen < row.past) {
        const int64_t key_head = a.blocks_each * a.rows.width;
        const QueryRow<T> query = a.rows.row(b, i, key_head);
        const T* means = a.means + b * a.rows.key_heads * key_head;
        for (int64_t j = 0; j < row.past; ++j) s.scores[j] = score_key(query, means + j * a.rows.width);
        return select_row(s.scores, row.past, row.chosen, s.select, s.chosen);
    }
    for (int64_t j = 0; j < row.chosen; ++j) s.chosen[j] = static_cast<int32_t>(j);
    return true;
}

template <class T>
SIEVE_INLINE void select_rows(const BlockSelect<T>& a, const RowScratch<T>& s, int64_t begin, int64_t end,
                              LowestRow& lowest_bad) {
    for (int64_t r = begin; r < end; ++r) {
        const int64_t i = r % a.rows.queries;
        const BlockRow row(a.length - a.rows.queries + i, a.block, a.slots);
        int32_t* indices = a.indices + r * a.slots;
        a.counts[r] = static_cast<int32_t>(row.count);
        if (!choose_blocks(a, r / a.rows.queries, i, row, s)) {
            lowest_bad.note(r);
            continue;
        }
        for (int64_t slot = 0; slot < a.slots; ++slot)
            indices[slot] = slot < row.count ? row.key(s.chosen, a.block, slot) : 0;
    }
}

SIEVE_CLONES void select(const BlockSelect<float>& a, const RowScratch<float>& s, int64_t begin, int64_t end,
                         LowestRow& lowest_bad) {
    select_rows(a, s, begin, end, lowest_bad);
}
SIEVE_CLONES void select(const BlockSelect<double>& a, const RowScratch<double>& s, int64_t begin,
                         int64_t end, LowestRow& lowest_bad) {
    select_rows(a, s, begin, end, lowest_bad);
}

}  // namespace

template <class T>
void block_select(const BlockSelect<T>& a) {
    const int64_t past = a.length / a.block, row_products = past * a.rows.heads * a.rows.width;
    LowestRow lowest_bad;
    parallel_for(
        a.rows.batch * a.rows.queries, products_a_thread / (row_products + 1) + 1,
        [&](int64_t begin, int64_t end) {
            const Tensor scores = Tensor::empty({past}, dtype_of<T>),
                         chosen = Tensor::empty({past}, DType::int32);
            const SelectRoom<T> room(past);
            select(a, {scores.data<T>(), chosen.data<int32_t>(), room.scratch()}, begin, end, lowest_bad);
        });
    *a.bad_row = lowest_bad.get();
}

template void block_select(const BlockSelect<float>&);
template void block_select(const BlockSelect<double>&);

}  // namespace sieve::cpu
