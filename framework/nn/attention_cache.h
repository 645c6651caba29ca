// What one attention layer keeps of the tokens that it has read, so that the next token costs only its own
// work: their keys, their values and, in a sparse model, their indexer keys.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

class AttentionCache {
  public:
    int64_t length() const { return length_; }  // tokens held; the next one has this position

    // Adds n tokens: k [B,G,n,dh], v [B,G,n,dv] and, when there is an indexer, its keys [B,n,dI] (undefined
    // otherwise). Storage doubles when it is full. Throws when they do not continue what is held.
    void append(const Tensor& k, const Tensor& v, const Tensor& indexer_k);

    const Tensor& k() const { return k_; }                            // [B,G,C,dh], C >= length()
    const Tensor& v() const { return v_; }                            // [B,G,C,dv]
    const Tensor& indexer_panels() const { return indexer_panels_; }  // see ops/decode_select

  private:
    int64_t length_ = 0;
    Tensor k_, v_, indexer_panels_;
};

}  // namespace sieve
