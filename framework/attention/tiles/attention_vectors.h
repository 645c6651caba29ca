// Vectors for the attention kernels.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "framework/core/vector_math.h"
#include "framework/core/vectors.h"

namespace sieve::cpu {

// The score of a key that is not attended to: finite, so that a difference of two of them is 0 and not NaN.
template <class T>
constexpr T no_score = std::numeric_limits<T>::lowest() / 2;

// log sum_s e^z[s], given the maximum m of z and sum_s e^(z[s] - m): `value`, and the `rest` that its
// rounding lost. -inf and 0 of nothing.
template <class T>
struct LogSumExp {
    T value, rest;
};
template <class T>
SIEVE_INLINE LogSumExp<T> log_sum_exp(T maximum, T sum) {
    const T log_sum = std::log(sum), value = maximum + log_sum;
    return {value, sum > T(0) ? (maximum - value) + log_sum : T(0)};
}

template <class T, int width>
SIEVE_INLINE void max_into(Vector<T, width>& x, const Vector<T, width>& y) {
    x = x > y ? x : y;
}

template <class T>
SIEVE_INLINE T dot(const T* x, const T* y, int64_t n) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; ++j) sum += x[j] * y[j];
    return sum;
}

// Lane l of x stays where bit l of `bits` is set and becomes `otherwise` elsewhere.
template <class T, int width>
SIEVE_INLINE void keep(uint32_t bits, Vector<T, width>& x, T otherwise) {
    using I = Integers<T, width>;
    I lane_bit;
    for (int l = 0; l < width; ++l) lane_bit[l] = 1 << l;
    const I chosen = (lane_bit & static_cast<typename VectorTypes<T, width>::Integer>(bits)) != 0;
    const Vector<T, width> others = Vector<T, width>{} + otherwise;
    x = chosen ? x : others;
}

template <class T, int width, int block = width / 2>
SIEVE_INLINE void transpose(Vector<T, width>* rows) {
    if constexpr (block >= 1) {
#pragma GCC unroll 16
        for (int i = 0; i < width; ++i)
            if (!(i & block)) exchange<T, width, block>(rows[i], rows[i + block]);
        transpose<T, width, block / 2>(rows);
    }
}

}  // namespace sieve::cpu
