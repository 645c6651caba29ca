// Indexer scores from int8 codes. As in score_block.h, the rows (t,j) of a block of queries meet one panel of keys at
// a time; here the products are integers (int8_dots.h), and the sum over heads turns them into float32:
//
//   I[t,s] = key_scale[s] * sum_j (scale * w[t,j]) * float(max(x[t,j,s], 0))
//
// in the order of the float32 indexer, whose bits for the same integers these are: float32 holds sums of
// integer products below 2^24 exactly.
#pragma once

#include "framework/attention/scores/indexer_sizes.h"
#include "framework/core/tensor.h"

namespace sieve::cpu {

// q and k as bytes of int8, one scale a row. The scales of the queries are in w.
struct Int8Operands {
    const uint8_t* q;         // [B,T,HI,dI]
    const uint8_t* k;         // [B,T,dI]
    const float* w;           // [B,T,HI]
    const float* key_scales;  // [B,T]
    IndexerSizes sizes;
    float scale;
};

// The packed keys of all batch rows.
struct Int8Keys {
    Tensor panels;  // uint8 [B, panels * groups * keys * 4]
    Tensor scales;  // float32 [B, panels * keys]
};
Int8Keys pack_int8_keys(const Int8Operands& a);

// From one row of scores to the next, when keys s < end are scored.
int64_t int8_score_stride(int64_t end);

// Scores of queries [begin, end) of batch row b against all keys s < end, into scores [end - begin, stride].
void int8_scores(const Int8Operands& a, const Int8Keys& keys, int64_t b, int64_t begin, int64_t end,
                 const Tensor& scores);

}  // namespace sieve::cpu
