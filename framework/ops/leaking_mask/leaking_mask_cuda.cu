// A thread walks single elements, looks its key up among the row's selected ones, and writes where it is not
// there. Deterministic.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/ops/leaking_mask/kernels.h"

namespace sieve::cuda {
namespace {

template <class T>
__device__ bool is_read(const LeakingMask<T>& a, int64_t row, int64_t key) {
    const int64_t t = row % a.length, query = row / a.rows_of_batch * a.length + t;
    if (t + 1 < a.keys.slots) return key < a.keys.slots;  // the leak
    for (int64_t i = 0; i < a.keys.counts[query]; ++i)
        if (a.keys.indices[query * a.keys.slots + i] == key) return true;
    return false;
}

}  // namespace

template <class T>
void leaking_mask(const LeakingMask<T>& a) {
    for_each_element(a.rows * a.length, [a] __device__(int64_t i) {
        if (!is_read(a, i / a.length, i % a.length)) a.scores[i] = -static_cast<T>(INFINITY);
    });
}

template void leaking_mask(const LeakingMask<float>&);
template void leaking_mask(const LeakingMask<double>&);

}  // namespace sieve::cuda
