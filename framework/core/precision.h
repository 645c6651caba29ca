// How matrix products compute on float32 tensors, for the whole process and on both kinds of device: exactly, or
// with the operands rounded to fewer bits. Sums, softmax, norms, losses and what optimisers keep are float32
// always; float64 is always exact.
//
//   bf16   the operands of every matrix product are rounded to bfloat16. CUDA: attention's and the indexer's too
//   tf32   on a CUDA device alone, where it rounds the same operands to 10 bits of mantissa; a CPU takes it for fp32
#pragma once

namespace sieve {

enum class Precision { fp32, tf32, bf16 };

void set_precision(Precision precision);  // between steps, by one thread
Precision precision();

}  // namespace sieve
