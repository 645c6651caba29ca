// All rows at once: attention/scores/select_rows.cuh.
#include "framework/attention/scores/select_rows.cuh"
#include "framework/ops/top_k/kernels.h"

namespace sieve::cuda {

template <class T>
void top_k_select(const TopKSelect<T>& a) {
    select_rows(SelectRows<T>{.scores = a.scores,
                              .chunk = {.batch = 0, .batches = a.batch, .first = 0, .rows = a.length},
                              .length = a.length,
                              .slots = a.slots,
                              .indices = a.indices,
                              .counts = a.counts});
}

template void top_k_select(const TopKSelect<float>&);
template void top_k_select(const TopKSelect<double>&);

}  // namespace sieve::cuda
