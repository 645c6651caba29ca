// Forward: a thread takes elements a grid's stride apart; 8 bytes an element, the bias comes from the L1 cache.
// Backward: a block holds 32 columns (column_sums.cuh); 4 bytes an element. Deterministic.
#include "framework/core/cuda/column_sums.cuh"
#include "framework/core/cuda/elementwise.cuh"
#include "framework/ops/add_bias/kernels.h"

namespace sieve::cuda {

template <class T>
void add_bias_forward(const AddBiasForward<T>& a) {
    for_each_element(a.rows * a.width, [a] __device__(int64_t i) { a.y[i] = a.x[i] + a.bias[i % a.width]; });
}

template <class T>
void add_bias_backward(const AddBiasBackward<T>& a) {
    column_sums<T>({.x = a.dy, .rows = a.rows, .stride = a.width, .width = a.width, .sums = a.dbias});
}

template void add_bias_forward(const AddBiasForward<float>&);
template void add_bias_forward(const AddBiasForward<double>&);
template void add_bias_backward(const AddBiasBackward<float>&);
template void add_bias_backward(const AddBiasBackward<double>&);

}  // namespace sieve::cuda
