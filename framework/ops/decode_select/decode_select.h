// The lightning indexer for one new token: it scores every key that a cache holds and selects the top k.
//
//   I[b,s] = scale * sum_j w[b,j] ReLU(q[b,j] . k[b,s])       s < length: the last row of indexer_scores
//   (times scales[b,s], where there are any: int8 keys, see rounded_keys)
//   S[b]   = the min(k, length) keys that come first by (I descending, s ascending)
//
// Scores have the bits that indexer_scores gives them, so the selection is indexer_select's, to the last tie.
// Work O(length) a token: keys are kept as the panels that scoring reads, and no key is repacked.
#pragma once

#include "framework/attention/selection/selection.h"
#include "framework/core/tensor.h"

namespace sieve {

// Keys that fit into one panel; a cache grows by whole ones.
int64_t indexer_panel_keys(DType dtype);

// Writes the indexer keys k [B,n,dI] as the keys first..first+n-1 of panels [B,P,dI,indexer_panel_keys].
// Throws when they do not fit, or shapes, dtypes or devices differ.
void store_indexer_keys(const Tensor& k, const Tensor& panels, int64_t first);

// One token's queries and weights.
struct IndexerQuery {
    Tensor q;  // [B,1,HI,dI]
    Tensor w;  // [B,1,HI]
    double scale = 1;
};

// The keys of the tokens so far.
struct CachedIndexerKeys {
    Tensor panels;  // as above, of which `length` keys are in use
    int64_t length = 0;
    Tensor scales;  // undefined, or [B,C] with C >= length
};

// -> indices [B,1,min(k,length)], counts [B,1]. Records nothing. Throws when top_k < 1, length is not in
// [1, P * indexer_panel_keys], shapes, dtypes or devices differ, HI or dI is 0, and (kind diverged) when a score that
// is compared is NaN.
Selection decode_select(const IndexerQuery& query, const CachedIndexerKeys& keys, int64_t top_k);

}  // namespace sieve
