#include <algorithm>

#include "framework/core/threads.h"
#include "framework/ops/head_parts/kernels.h"

namespace sieve::cpu {

template <class T>
void copy_rows(const CopyRows<T>& a) {
    const int64_t grain = (1 << 14) / std::max<int64_t>(1, a.heads * a.columns) + 1;
    parallel_for(a.batches * a.tokens, grain, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const int64_t b = row / a.tokens, t = row % a.tokens;
            for (int64_t h = 0; h < a.heads; ++h) {
                T* y = a.y + b * a.to.batch + t * a.to.token + h * a.to.head;
                if (a.x)
                    std::copy_n(a.x + b * a.from.batch + t * a.from.token + h * a.from.head, a.columns, y);
                else
                    std::fill_n(y, a.columns, T(0));
            }
        }
    });
}

template void copy_rows(const CopyRows<float>&);
template void copy_rows(const CopyRows<double>&);

}  // namespace sieve::cpu
