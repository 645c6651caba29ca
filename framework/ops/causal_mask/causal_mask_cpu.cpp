#include <algorithm>
#include <limits>

#include "framework/core/threads.h"
#include "framework/ops/causal_mask/kernels.h"

namespace sieve::cpu {

template <class T>
void mask_future(const MaskFuture<T>& a) {
    parallel_for(a.rows, (1 << 15) / a.width + 1, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            T* const scores = a.scores + row * a.width;
            std::fill(scores + row % a.width + 1, scores + a.width, -std::numeric_limits<T>::infinity());
        }
    });
}

template void mask_future(const MaskFuture<float>&);
template void mask_future(const MaskFuture<double>&);

}  // namespace sieve::cpu
