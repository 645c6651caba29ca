// A thread holds one pack of 16 bytes, or one element to convert. Bound by memory; deterministic: each
// element is one thread's alone.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/core/elements.h"

namespace sieve::cuda {

template <class T>
void fill(const Fill<T>& a) {
    const T value = a.value;
    map_elements(a.count, a.y, [value] __device__() { return value; });
}

template <class To, class From>
void convert(const Convert<To, From>& a) {
    for_each_element(a.count, [a] __device__(int64_t i) { a.y[i] = static_cast<To>(a.x[i]); });
}

template <class T>
void accumulate(const Accumulate<T>& a) {
    map_elements(
        a.count, a.target, [] __device__(T x, T y) { return x + y; }, a.target, a.source);
}

template void accumulate(const Accumulate<float>&);
template void accumulate(const Accumulate<double>&);
template void fill(const Fill<float>&);
template void fill(const Fill<double>&);
template void fill(const Fill<int32_t>&);
template void fill(const Fill<int64_t>&);
template void fill(const Fill<uint8_t>&);
#define SIEVE_INSTANTIATE(To, From) template void convert(const Convert<To, From>&);
SIEVE_FOR_ALL_CONVERSIONS(SIEVE_INSTANTIATE)
#undef SIEVE_INSTANTIATE

}  // namespace sieve::cuda
