#include "framework/attention/selection/select_room.h"
#include "framework/core/simd.h"
#include "framework/core/tensor.h"
#include "framework/core/threads.h"
#include "framework/ops/top_k/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t grain_rows = 16;

template <class T>
SIEVE_INLINE void select_rows(const TopKSelect<T>& a, const SelectScratch<T>& scratch, int64_t begin,
                              int64_t end, LowestRow& lowest_bad) {
    for (int64_t row = begin; row < end; ++row) {
        const bool ordered = select_into(a.scores + row * a.length, row % a.length + 1, a.slots, scratch,
                                         a.indices + row * a.slots, a.counts + row);
        if (!ordered) lowest_bad.note(row);
    }
}

SIEVE_CLONES void select(const TopKSelect<float>& a, const SelectScratch<float>& scratch, int64_t begin,
                         int64_t end, LowestRow& lowest_bad) {
    select_rows(a, scratch, begin, end, lowest_bad);
}
SIEVE_CLONES void select(const TopKSelect<double>& a, const SelectScratch<double>& scratch, int64_t begin,
                         int64_t end, LowestRow& lowest_bad) {
    select_rows(a, scratch, begin, end, lowest_bad);
}

}  // namespace

template <class T>
void top_k_select(const TopKSelect<T>& a) {
    LowestRow lowest_bad;
    parallel_for(a.batch * a.length, grain_rows, [&](int64_t begin, int64_t end) {
        const SelectRoom<T> room(a.length);
        select(a, room.scratch(), begin, end, lowest_bad);
    });
    *a.bad_row = lowest_bad.get();
}

template void top_k_select(const TopKSelect<float>&);
template void top_k_select(const TopKSelect<double>&);

}  // namespace sieve::cpu
