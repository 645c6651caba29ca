#include "framework/attention/scores/query_row_cpu.h"
#include "framework/attention/selection/select_room.h"
#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/ops/select_among/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t products_a_thread = 1 << 16;

// One thread's room for a row of candidates.
template <class T>
struct RowScratch {
    T* scores;
    SelectScratch<T> select;
};

// Writes which of the row's `count` candidates are kept. False when a score is NaN.
template <class T>
SIEVE_INLINE bool choose(const SelectAmong<T>& a, int64_t r, int64_t count, const RowScratch<T>& s,
                         int32_t* places) {
    const int64_t b = r / a.rows.queries, width = a.rows.width;
    const QueryRow<T> query = a.rows.row(b, r % a.rows.queries, 0);
    const T* k = a.k + b * a.keys_each * width;
    const int32_t* candidates = a.candidates.indices + r * a.candidates.slots;
    for (int64_t i = 0; i < count; ++i) s.scores[i] = score_key(query, k + candidates[i] * width);
    return select_row(s.scores, count, a.slots, s.select, places);
}

template <class T>
SIEVE_INLINE void select_rows(const SelectAmong<T>& a, const RowScratch<T>& s, int64_t begin, int64_t end,
                              LowestRow& lowest_bad) {
    for (int64_t r = begin; r < end; ++r) {
        const int64_t count = a.candidates.counts[r], kept = std::min(count, a.slots);
        const int32_t* candidates = a.candidates.indices + r * a.candidates.slots;
        int32_t* indices = a.indices + r * a.slots;
        a.counts[r] = static_cast<int32_t>(kept);
        if (count > a.slots && !choose(a, r, count, s, indices)) {
            lowest_bad.note(r);
            continue;
        }
        for (int64_t i = 0; i < a.slots; ++i)
            indices[i] = i < kept ? candidates[count > a.slots ? indices[i] : i] : 0;
    }
}

SIEVE_CLONES void select(const SelectAmong<float>& a, const RowScratch<float>& s, int64_t begin, int64_t end,
                         LowestRow& lowest_bad) {
    select_rows(a, s, begin, end, lowest_bad);
}
SIEVE_CLONES void select(const SelectAmong<double>& a, const RowScratch<double>& s, int64_t begin,
                         int64_t end, LowestRow& lowest_bad) {
    select_rows(a, s, begin, end, lowest_bad);
}

}  // namespace

template <class T>
void select_among(const SelectAmong<T>& a) {
    const int64_t most = a.candidates.slots, row_products = most * a.rows.heads * a.rows.width;
    LowestRow lowest_bad;
    parallel_for(a.rows.batch * a.rows.queries, products_a_thread / (row_products + 1) + 1,
                 [&](int64_t begin, int64_t end) {
                     const Tensor scores = Tensor::empty({most}, dtype_of<T>);
                     const SelectRoom<T> room(most);
                     select(a, {scores.data<T>(), room.scratch()}, begin, end, lowest_bad);
                 });
    *a.bad_row = lowest_bad.get();
}

template void select_among(const SelectAmong<float>&);
template void select_among(const SelectAmong<double>&);

}  // namespace sieve::cpu
