#include "framework/attention/scores/int8_dots.h"

#include <algorithm>
#include <cstring>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(SIEVE_NO_CLONES)
#define SIEVE_INT8_X86
#include <immintrin.h>
#endif

namespace sieve::cpu {
namespace {

void plain_dots(const Int8Dots& a) {
    for (int64_t r = 0; r < a.rows; ++r) {
        int32_t* x = a.x + r * int8_panel_keys;
        std::fill(x, x + int8_panel_keys, 0);
        for (int64_t g = 0; g < a.groups; ++g) {
            const int8_t* q = a.q + (r * a.groups + g) * 4;
            const int8_t* k = a.k + g * int8_panel_keys * 4;
            for (int64_t s = 0; s < int8_panel_keys; ++s)
                for (int64_t i = 0; i < 4; ++i) x[s] += q[i] * k[s * 4 + i];
        }
    }
}

#ifdef SIEVE_INT8_X86

inline int32_t four_codes(const int8_t* from) {
    int32_t word;
    std::memcpy(&word, from, 4);
    return word;
}

// R rows from row r on, in 2 R sums of 8 keys each.
template <int R>
__attribute__((target("avx2"))) inline void avx2_rows(const Int8Dots& a, int64_t r) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum[R][2];
    for (int i = 0; i < R; ++i) sum[i][0] = sum[i][1] = _mm256_setzero_si256();
    for (int64_t g = 0; g < a.groups; ++g) {
        const __m256i* keys = reinterpret_cast<const __m256i*>(a.k + g * int8_panel_keys * 4);
        const __m256i k[2] = {_mm256_loadu_si256(keys), _mm256_loadu_si256(keys + 1)};
        for (int i = 0; i < R; ++i) {
            const __m256i q = _mm256_set1_epi32(four_codes(a.q + ((r + i) * a.groups + g) * 4));
            const __m256i size = _mm256_abs_epi8(q);
            for (int half = 0; half < 2; ++half) {
                const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(k[half], q));
                sum[i][half] = _mm256_add_epi32(sum[i][half], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    for (int i = 0; i < R; ++i)
        for (int half = 0; half < 2; ++half)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(a.x + (r + i) * int8_panel_keys + half * 8),
                                sum[i][half]);
}

__attribute__((target("avx2"))) void avx2_dots(const Int8Dots& a) {
    int64_t r = 0;
    for (; r + 4 <= a.rows; r += 4) avx2_rows<4>(a, r);
    for (; r < a.rows; ++r) avx2_rows<1>(a, r);
}

#define SIEVE_VNNI __attribute__((target("avx512f,avx512bw,avx512vnni")))

template <int R>
SIEVE_VNNI inline void vnni_rows(const Int8Dots& a, int64_t r, __m512i start) {
    __m512i sum[R];
    for (int i = 0; i < R; ++i) sum[i] = start;
    for (int64_t g = 0; g < a.groups; ++g) {
        const __m512i k = _mm512_loadu_si512(a.k + g * int8_panel_keys * 4);
        for (int i = 0; i < R; ++i) {
            // Flipping its highest bit adds 128 to a byte.
            const uint32_t q =
                static_cast<uint32_t>(four_codes(a.q + ((r + i) * a.groups + g) * 4)) ^ 0x80808080u;
            sum[i] = _mm512_dpbusd_epi32(sum[i], _mm512_set1_epi32(static_cast<int32_t>(q)), k);
        }
    }
    for (int i = 0; i < R; ++i) _mm512_storeu_si512(a.x + (r + i) * int8_panel_keys, sum[i]);
}

SIEVE_VNNI void vnni_dots(const Int8Dots& a) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i key_sums = _mm512_setzero_si512();
    for (int64_t g = 0; g < a.groups; ++g)
        key_sums = _mm512_dpbusd_epi32(key_sums, ones, _mm512_loadu_si512(a.k + g * int8_panel_keys * 4));
    const __m512i start = _mm512_mullo_epi32(key_sums, _mm512_set1_epi32(-128));
    int64_t r = 0;
    for (; r + 8 <= a.rows; r += 8) vnni_rows<8>(a, r, start);
    for (; r < a.rows; ++r) vnni_rows<1>(a, r, start);
}

#endif

}  // namespace

bool is_available(Int8Kernel kernel) {
#ifdef SIEVE_INT8_X86
    if (kernel == Int8Kernel::avx2) return __builtin_cpu_supports("avx2");
    if (kernel == Int8Kernel::vnni)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vnni");
#endif
    return kernel == Int8Kernel::plain;
}

Int8Kernel fastest_int8_kernel() {
    static const Int8Kernel fastest = is_available(Int8Kernel::vnni)   ? Int8Kernel::vnni
                                      : is_available(Int8Kernel::avx2) ? Int8Kernel::avx2
                                                                       : Int8Kernel::plain;
    return fastest;
}

void int8_dots(Int8Kernel kernel, const Int8Dots& a) {
#ifdef SIEVE_INT8_X86
    if (kernel == Int8Kernel::vnni) return vnni_dots(a);
    if (kernel == Int8Kernel::avx2) return avx2_dots(a);
#else
    static_cast<void>(kernel);
#endif
    plain_dots(a);
}

}  // namespace sieve::cpu
