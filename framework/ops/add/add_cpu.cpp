#include "framework/core/simd.h"
#include "framework/core/threads.h"
#include "framework/ops/add/kernels.h"

namespace sieve::cpu {
namespace {

constexpr int64_t grain_elements = 1 << 15;

template <class T>
SIEVE_INLINE void add_range(const AddForward<T>& args, int64_t begin, int64_t end) {
    const T* __restrict a = args.a;
    const T* __restrict b = args.b;
    T* __restrict y = args.y;
    for (int64_t i = begin; i < end; ++i) y[i] = a[i] + b[i];
}

SIEVE_CLONES void add(const AddForward<float>& args, int64_t begin, int64_t end) {
    add_range(args, begin, end);
}
SIEVE_CLONES void add(const AddForward<double>& args, int64_t begin, int64_t end) {
    add_range(args, begin, end);
}

}  // namespace

template <class T>
void add_forward(const AddForward<T>& args) {
    parallel_for(args.count, grain_elements, [&](int64_t begin, int64_t end) { add(args, begin, end); });
}

template void add_forward(const AddForward<float>&);
template void add_forward(const AddForward<double>&);

}  // namespace sieve::cpu
