// Fixed-width vectors, and the choice of instruction set when the program runs.
//
// Register-blocked kernels need a vector width known when they are compiled, so each is a template over it:
// run_best calls the instantiation for the widest vectors the machine has, compiled for that instruction set.
// Everything it calls must be inlined into it, hence SIEVE_INLINE. A vector wider than the machine's
// registers is no way out: GCC takes it apart through memory (5 to 20 times slower).
#pragma once

#include <cstdint>
#include <type_traits>

#include "framework/core/simd.h"

namespace sieve::cpu {

template <class T, int width>
struct VectorTypes {
    typedef T Vector __attribute__((vector_size(width * sizeof(T)), may_alias));
    typedef T Loose __attribute__((vector_size(width * sizeof(T)), aligned(sizeof(T)), may_alias));
    using Integer = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
    typedef Integer Integers __attribute__((vector_size(width * sizeof(T))));
};

template <class T, int width>
using Vector = typename VectorTypes<T, width>::Vector;
template <class T, int width>
using Integers = typename VectorTypes<T, width>::Integers;

constexpr int64_t round_up(int64_t n, int64_t step) {
    return (n + step - 1) / step * step;
}

// `pointer` must be a multiple of the vector's size.
template <class T, int width>
SIEVE_INLINE const Vector<T, width>& load(const T* pointer) {
    return *reinterpret_cast<const Vector<T, width>*>(pointer);
}
template <class T, int width>
SIEVE_INLINE Vector<T, width>& at(T* pointer) {
    return *reinterpret_cast<Vector<T, width>*>(pointer);
}

// The same for a pointer anywhere. (GCC warns of results that are vectors longer than the target's. Clang 14 and 16
// take what a returned reference refers to as aligned like any vector, whatever its type says.)
template <class T, int width>
#if defined(__clang__)
SIEVE_INLINE Vector<T, width> load_anywhere(const T* pointer) {
#else
SIEVE_INLINE const typename VectorTypes<T, width>::Loose& load_anywhere(const T* pointer) {
#endif
    return *reinterpret_cast<const typename VectorTypes<T, width>::Loose*>(pointer);
}
template <class T, int width>
SIEVE_INLINE void store_anywhere(T* pointer, const Vector<T, width>& x) {
    *reinterpret_cast<typename VectorTypes<T, width>::Loose*>(pointer) = x;
}

// Lane l of `result` becomes lane lanes[l] of a and b, laid end to end.
template <class Vector, class Integers>
SIEVE_INLINE void shuffle(const Vector& a, const Vector& b, const Integers& lanes, Vector& result) {
#if defined(__clang__)  // has no shuffle by lanes in a variable
    constexpr int width = sizeof(lanes) / sizeof(lanes[0]);
    for (int l = 0; l < width; ++l) result[l] = lanes[l] < width ? a[lanes[l]] : b[lanes[l] - width];
#else
    result = __builtin_shuffle(a, b, lanes);
#endif
}

// One step of a width x width transpose: swaps the off-diagonal blocks of `block` lanes of rows a and b.
template <class T, int width, int block>
SIEVE_INLINE void exchange(Vector<T, width>& a, Vector<T, width>& b) {
    Integers<T, width> low, high;
    for (int l = 0; l < width; ++l) {
        low[l] = (l & block) ? width + l - block : l;
        high[l] = (l & block) ? width + l : l + block;
    }
    Vector<T, width> a_new, b_new;
    shuffle(a, b, low, a_new);
    shuffle(a, b, high, b_new);
    a = a_new;
    b = b_new;
}

// rows[0][l] = sum of the lanes of rows[l], in an order that does not depend on l. Destroys the other rows.
template <class T, int width, int block = 1>
SIEVE_INLINE void sum_each(Vector<T, width>* rows) {
    if constexpr (block < width) {
#pragma GCC unroll 16
        for (int i = 0; i < width / (2 * block); ++i) {
            Vector<T, width> a = rows[2 * i], b = rows[2 * i + 1];
            exchange<T, width, block>(a, b);
            rows[i] = a + b;
        }
        sum_each<T, width, 2 * block>(rows);
    }
}

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(SIEVE_NO_CLONES)
template <class Body, class T, class... A>
__attribute__((target("arch=x86-64-v4,prefer-vector-width=512"))) void run_64_bytes(const A&... arguments) {
    Body::template run<T, 64 / sizeof(T)>(arguments...);
}
template <class Body, class T, class... A>
__attribute__((target("arch=x86-64-v3"))) void run_32_bytes(const A&... arguments) {
    Body::template run<T, 32 / sizeof(T)>(arguments...);
}
inline int vector_bytes() {
    static const int bytes = __builtin_cpu_supports("x86-64-v4")   ? 64
                             : __builtin_cpu_supports("x86-64-v3") ? 32
                                                                   : 16;
    return bytes;
}
// Body::run<T, width>(arguments...), width being the number of T in the machine's widest vectors.
template <class Body, class T, class... A>
void run_best(const A&... arguments) {
    if (vector_bytes() == 64) return run_64_bytes<Body, T>(arguments...);
    if (vector_bytes() == 32) return run_32_bytes<Body, T>(arguments...);
    Body::template run<T, 16 / sizeof(T)>(arguments...);
}
#else
inline int vector_bytes() {
    return 16;
}
template <class Body, class T, class... A>
void run_best(const A&... arguments) {
    Body::template run<T, 16 / sizeof(T)>(arguments...);
}
#endif

// The width that run_best chooses.
template <class T>
int64_t widest() {
    return vector_bytes() / static_cast<int64_t>(sizeof(T));
}

}  // namespace sieve::cpu
