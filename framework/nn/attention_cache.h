// What one attention layer keeps of the tokens that it has read, so that the next token costs only its own
// work: their keys, their values and what a selector remembers of them.
#pragma once

#include <memory>

#include "framework/nn/selector.h"

namespace sieve {

class AttentionCache {
  public:
    int64_t length() const { return length_; }  // tokens held; the next one has this position

    // Adds n tokens: k [B,G,n,dh], v [B,G,n,dv]. Throws when they do not continue what is held.
    void append(const Tensor& k, const Tensor& v);
    // Adds the same tokens as `selector` made them.
    void append(const Selector& selector, const SelectorState& state);

    const Tensor& k() const { return k_; }  // [B,G,C,dh], C >= length()
    const Tensor& v() const { return v_; }  // [B,G,C,dv]
    // The keys of the last token, whose `state` was appended.
    Selection select_next(const Selector& selector, const SelectorState& state) const;

  private:
    int64_t length_ = 0;
    Tensor k_, v_;
    std::unique_ptr<SelectorCache> selector_;  // made when a selector first appends
};

}  // namespace sieve
