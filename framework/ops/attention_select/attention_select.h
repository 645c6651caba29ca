// The keys that attention itself looks at most: what a selection can be at best, judged by the dense
// probabilities that the alignment loss trains an indexer towards.
//
//   p[t,s] = sum_h softmax_s(scale * q[t,h] . k[s,g(h)])        over all s <= t; g(h) = h / (H/G)
//   S_t    = the min(k, t+1) keys s <= t that come first by (p[t,s] descending, s ascending)
//
// Shapes: q [B,H,T,dh], k [B,G,T,dh] (H a multiple of G); float32 or float64, in which p is also computed and
// compared. Equal keys tie exactly, and so do all probabilities that are too small for a number. Rows t < k
// take all their keys and are not scored. Records nothing: no gradient flows through a selection. In tiles:
// memory O(T), never T x T; work O(T^2), that of dense attention.
#pragma once

#include "framework/attention/selection/selection.h"
#include "framework/attention/target/main_attention.h"

namespace sieve {

// Throws when top_k < 1, shapes, dtypes or devices differ, H is no multiple of G, and (kind diverged, on the
// CPU alone) when a probability that is compared is NaN, naming its batch row and query. On CUDA a NaN ranks
// below all numbers.
Selection attention_select(const MainAttention& attention, int64_t top_k);

// For one new token: the row that attention_select gives it, to the bit. q [B,H,1,dh]; `key_panels`
// [B G,P,dh,keys of a panel] as store_indexer_keys (decode_select.h) writes them, of whose keys `length` are
// in use, the new token's last. -> indices [B,1,min(k,length)], counts [B,1]. CPU. Throws as above, and when
// length is not in [1, keys of P panels].
Selection attention_select_next(const Tensor& q, double scale, const Tensor& key_panels, int64_t length,
                                int64_t top_k);

}  // namespace sieve
