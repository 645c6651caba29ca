#include "framework/nn/attention_cache.h"

#include "framework/nn/growing_rows.h"

namespace sieve {

void AttentionCache::append(const Tensor& k, const Tensor& v) {
    append_rows("k", k_, length_, k);
    append_rows("v", v_, length_, v);
    length_ += k.dim(2);
}

void AttentionCache::append(const Selector& selector, const SelectorState& state) {
    if (!selector_) selector_ = selector.make_cache();
    selector.append(state, *selector_);
}

Selection AttentionCache::select_next(const Selector& selector, const SelectorState& state) const {
    return selector.select_next(state, *selector_, length_);
}

}  // namespace sieve
