#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/ops/scale/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t grain_elements = 1 << 15;

template <class T>
SIEVE_INLINE void scale_range(const ScaleForward<T>& args, int64_t begin, int64_t end) {
    const T* __restrict x = args.x;
    T* __restrict y = args.y;
    const T factor = static_cast<T>(args.factor);
    for (int64_t i = begin; i < end; ++i) y[i] = factor * x[i];
}

SIEVE_CLONES void scale(const ScaleForward<float>& args, int64_t begin, int64_t end) {
    scale_range(args, begin, end);
}
SIEVE_CLONES void scale(const ScaleForward<double>& args, int64_t begin, int64_t end) {
    scale_range(args, begin, end);
}

}  // namespace

template <class T>
void scale_forward(const ScaleForward<T>& args) {
    parallel_for(args.count, grain_elements, [&](int64_t begin, int64_t end) { scale(args, begin, end); });
}

template void scale_forward(const ScaleForward<float>&);
template void scale_forward(const ScaleForward<double>&);

}  // namespace sieve::cpu
