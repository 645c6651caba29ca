#include <algorithm>

#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/core/vector_math.h"
#include "framework/ops/dropout/kernels.h"
#include "framework/ops/silu/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t chunk = 256;  // elements whose masks are drawn together: 64 Philox blocks

// mask[i] = scale where element first + i is kept, else 0. `first` is a multiple of 4. The rounds run side by
// side over the blocks of the chunk, which is what lets them vectorise.
inline void draw_mask(RngKey key, int64_t first, float p, float scale, float* __restrict mask) {
    constexpr int64_t blocks = chunk / 4;
    uint32_t words[4][blocks];
    const uint64_t base = static_cast<uint64_t>(first) / 4;
#pragma omp simd
    for (int64_t i = 0; i < blocks; ++i) {
        const Philox4 r = philox(key, base + static_cast<uint64_t>(i));
        words[0][i] = r.v[0];
        words[1][i] = r.v[1];
        words[2][i] = r.v[2];
        words[3][i] = r.v[3];
    }
    for (int64_t i = 0; i < blocks; ++i)
        for (int64_t w = 0; w < 4; ++w) mask[4 * i + w] = uniform_from_bits(words[w][i]) >= p ? scale : 0.0f;
}

template <class T>
inline void combine(const DropoutApply<T>& a, const float* __restrict mask, int64_t first, int64_t n) {
    const T* __restrict source = a.source + first;
    const T* __restrict x = a.x + first;
    const T* __restrict residual = a.residual + first;
    T* __restrict y = a.y + first;
    if (a.form == DropoutForm::plain && a.residual) {
        for (int64_t i = 0; i < n; ++i) y[i] = residual[i] + static_cast<T>(mask[i]) * source[i];
    } else if (a.form == DropoutForm::plain) {
        for (int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(mask[i]) * source[i];
    } else if (a.form == DropoutForm::silu) {
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(mask[i]) * (x[i] * simd_sigmoid(x[i]));
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(mask[i]) * source[i] * silu_slope(x[i]);
    }
}

template <class T>
inline void apply_chunks(const DropoutApply<T>& a, int64_t begin, int64_t end) {
    float mask[chunk];
    const float scale = 1.0f / (1.0f - a.p);
    if (a.p == 0) std::fill(mask, mask + chunk, 1.0f);
    for (int64_t c = begin; c < end; ++c) {
        const int64_t first = c * chunk;
        if (a.p > 0) draw_mask(a.key, first, a.p, scale, mask);
        combine(a, mask, first, std::min(chunk, a.count - first));
    }
}

SIEVE_CLONES void apply(const DropoutApply<float>& a, int64_t b, int64_t e) {
    apply_chunks(a, b, e);
}
SIEVE_CLONES void apply(const DropoutApply<double>& a, int64_t b, int64_t e) {
    apply_chunks(a, b, e);
}

}  // namespace

template <class T>
void dropout_apply(const DropoutApply<T>& a) {
    parallel_for((a.count + chunk - 1) / chunk, 16,
                 [&](int64_t begin, int64_t end) { apply(a, begin, end); });
}

template void dropout_apply(const DropoutApply<float>&);
template void dropout_apply(const DropoutApply<double>&);

}  // namespace sieve::cpu
