// Chunks of query rows: their probabilities (attention/target/target_rows.h), then the best of each row
// (attention/scores/select_rows.cuh).
//
// FLOPs and bytes are those of the probabilities. Memory O(T): a chunk's [rows, T] probabilities and the
// lists of candidates. Deterministic.
#include "framework/attention/scores/select_rows.cuh"
#include "framework/attention/target/target_rows.h"
#include "framework/ops/attention_select/kernels.h"

namespace sieve::cuda {

template <class T>
void attention_select(const AttentionSelect<T>& a) {
    const MemoryScope scope({"probabilities that rank keys", {SizeKind::batch, SizeKind::length}});
    for_row_chunks(a.batch, a.length, [&](const RowChunk& chunk) {
        const Tensor p = Tensor::empty(Shape{chunk.batches, chunk.rows, a.length}, dtype_of<T>, device);
        target_rows(TargetRows<T>{.attention = a.attention,
                                  .length = a.length,
                                  .chunk = chunk,
                                  .keys = {{}, a.batch, a.length},
                                  .p = p.template data<T>()});
        select_rows(SelectRows<T>{.scores = p.template data<T>(),
                                  .chunk = chunk,
                                  .length = a.length,
                                  .slots = a.slots,
                                  .indices = a.indices,
                                  .counts = a.counts});
    });
}

template void attention_select(const AttentionSelect<float>&);
template void attention_select(const AttentionSelect<double>&);

}  // namespace sieve::cuda
