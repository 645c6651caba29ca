#include "framework/core/threads.h"
#include "framework/ops/noise/kernels.h"

namespace sieve::cpu {

// Router logits are the only user: a few thousand numbers a layer, so libm's log and cos are affordable.
template <class T>
void noise_forward(const NoiseForward<T>& a) {
    parallel_for(a.count, 1 << 10, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            a.y[i] = a.x[i] + static_cast<T>(a.std * normal_at(a.key, static_cast<uint64_t>(i)));
    });
}

template void noise_forward(const NoiseForward<float>&);
template void noise_forward(const NoiseForward<double>&);

}  // namespace sieve::cpu
