#include <algorithm>
#include <limits>

#include "framework/core/threads.h"
#include "framework/ops/leaking_mask/kernels.h"

namespace sieve::cpu {
namespace {

// Everything between the selected keys, which ascend.
template <class T>
void mask_row(const LeakingMask<T>& a, int64_t row) {
    constexpr T hidden = -std::numeric_limits<T>::infinity();
    const int64_t t = row % a.length, query = row / a.rows_of_batch * a.length + t;
    T* const scores = a.scores + row * a.length;
    if (t + 1 < a.keys.slots) {  // the leak
        std::fill(scores + a.keys.slots, scores + a.length, hidden);
        return;
    }
    int64_t next = 0;
    for (int64_t i = 0; i < a.keys.counts[query]; ++i) {
        const int64_t key = a.keys.indices[query * a.keys.slots + i];
        std::fill(scores + next, scores + key, hidden);
        next = key + 1;
    }
    std::fill(scores + next, scores + a.length, hidden);
}

}  // namespace

template <class T>
void leaking_mask(const LeakingMask<T>& a) {
    parallel_for(a.rows, (1 << 15) / a.length + 1, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) mask_row(a, row);
    });
}

template void leaking_mask(const LeakingMask<float>&);
template void leaking_mask(const LeakingMask<double>&);

}  // namespace sieve::cpu
