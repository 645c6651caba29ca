// What one attention layer keeps of the tokens that it has read, so that the next token costs only its own
// work: their keys, their values and, in a sparse model, their indexer keys.
#pragma once

#include "framework/core/tensor.h"
#include "framework/ops/lightning_indexer/lightning_indexer.h"

namespace sieve {

class AttentionCache {
  public:
    int64_t length() const { return length_; }  // tokens held; the next one has this position

    // Adds n tokens: k [B,G,n,dh], v [B,G,n,dv] and, when there is an indexer, its keys [B,n,dI] as its
    // precision has them (undefined otherwise). Storage doubles when it is full. Throws when they do not
    // continue what is held.
    void append(const Tensor& k, const Tensor& v, const RoundedKeys& indexer_keys);

    const Tensor& k() const { return k_; }                            // [B,G,C,dh], C >= length()
    const Tensor& v() const { return v_; }                            // [B,G,C,dv]
    const Tensor& indexer_panels() const { return indexer_panels_; }  // see ops/decode_select
    Tensor indexer_key_scales() const;  // [B,C]; undefined unless the indexer's precision is int8

  private:
    int64_t length_ = 0;
    Tensor k_, v_, indexer_panels_;
    Tensor indexer_key_scales_;  // [B,1,C,1]
};

}  // namespace sieve
