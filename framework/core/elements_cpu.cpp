#include <algorithm>

#include "framework/core/elements.h"
#include "framework/core/threads.h"

namespace sieve::cpu {

template <class T>
void fill(const Fill<T>& a) {
    std::fill(a.y, a.y + a.count, a.value);
}

template <class To, class From>
void convert(const Convert<To, From>& a) {
    for (int64_t i = 0; i < a.count; ++i) a.y[i] = static_cast<To>(a.x[i]);
}

template <class T>
void accumulate(const Accumulate<T>& a) {
    T* __restrict target = a.target;
    const T* __restrict source = a.source;
    parallel_for(a.count, 1 << 15, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) target[i] += source[i];
    });
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

}  // namespace sieve::cpu
