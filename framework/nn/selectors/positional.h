// Private to this room.
// What selectors share whose choice depends on positions alone: they learn nothing, remember nothing, and all
// batch rows read the same keys. What a selector that reads its input must beat.
#pragma once

#include <span>
#include <vector>

#include "framework/nn/selector.h"

namespace sieve {

class PositionalSelector : public Selector {
  public:
    explicit PositionalSelector(int64_t top_k) : top_k_(top_k) {}

    std::shared_ptr<const SelectorState> project(const SelectorInput& input) const override;
    Selection select(const SelectorState& state) const override;
    std::unique_ptr<SelectorCache> make_cache() const override;
    void append(const SelectorState&, SelectorCache&) const override {}
    Selection select_next(const SelectorState& state, const SelectorCache&, int64_t length) const override;

  private:
    // Writes the min(k, t + 1) keys of query t, ascending; keys.size() is their number.
    virtual void write_keys(int64_t t, std::span<int32_t> keys) const = 0;
    // Of the last `queries` of `length` tokens. Filled on the host.
    Selection last_rows(int64_t batch, int64_t queries, int64_t length, Device device) const;

    int64_t top_k_;
    mutable std::vector<Selection> made_;
};

}  // namespace sieve
