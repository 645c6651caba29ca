// One thread an element, neighbours in a row. Bandwidth bound: 2 elements a copied one. Deterministic.
#include "framework/core/cuda/elementwise.cuh"
#include "framework/ops/head_parts/kernels.h"

namespace sieve::cuda {

template <class T>
void copy_rows(const CopyRows<T>& a) {
    for_each_element(a.batches * a.tokens * a.heads * a.columns, [a] __device__(int64_t i) {
        const int64_t column = i % a.columns, h = i / a.columns % a.heads;
        const int64_t row = i / a.columns / a.heads, t = row % a.tokens, b = row / a.tokens;
        T* y = a.y + b * a.to.batch + t * a.to.token + h * a.to.head;
        y[column] = a.x ? a.x[b * a.from.batch + t * a.from.token + h * a.from.head + column] : T(0);
    });
}

template void copy_rows(const CopyRows<float>&);
template void copy_rows(const CopyRows<double>&);

}  // namespace sieve::cuda
