#include "framework/nn/selectors/positional.h"

#include <algorithm>

namespace sieve {
namespace {

struct PositionalState : SelectorState {
    int64_t batch = 0, length = 0;
    Device device;
};

const PositionalState& sizes_of(const SelectorState& state) {
    return static_cast<const PositionalState&>(state);
}

}  // namespace

std::shared_ptr<const SelectorState> PositionalSelector::project(const SelectorInput& input) const {
    auto state = std::make_shared<PositionalState>();
    state->batch = input.x.dim(0);
    state->length = input.x.dim(1);
    state->device = input.x.device();
    return state;
}

// Made once for each size and then kept: a recorded step on a device may not copy from the host, and reads
// the same memory each time it runs, whatever an evaluation asks for in between.
Selection PositionalSelector::select(const SelectorState& state) const {
    const PositionalState& s = sizes_of(state);
    const Shape rows{s.batch, s.length};
    for (const Selection& made : made_)
        if (made.counts.shape() == rows && made.counts.device() == s.device) return made;
    return made_.emplace_back(last_rows(s.batch, s.length, s.length, s.device));
}

std::unique_ptr<SelectorCache> PositionalSelector::make_cache() const {
    return std::make_unique<SelectorCache>();
}

Selection PositionalSelector::select_next(const SelectorState& state, const SelectorCache&,
                                          int64_t length) const {
    const PositionalState& s = sizes_of(state);
    return last_rows(s.batch, 1, length, s.device);
}

Selection PositionalSelector::last_rows(int64_t batch, int64_t queries, int64_t length, Device device) const {
    const int64_t slots = std::min(top_k_, length);
    std::vector<int32_t> indices(static_cast<size_t>(batch * queries * slots), 0);
    std::vector<int32_t> counts(static_cast<size_t>(batch * queries));
    for (int64_t i = 0; i < queries; ++i) {
        const int64_t t = length - queries + i, count = std::min(slots, t + 1);
        std::vector<int32_t> keys(static_cast<size_t>(count));
        write_keys(t, keys);
        for (int64_t row = i; row < batch * queries; row += queries) {
            counts[static_cast<size_t>(row)] = static_cast<int32_t>(count);
            std::copy(keys.begin(), keys.end(), indices.begin() + row * slots);
        }
    }
    return {Tensor::from(indices, {batch, queries, slots}).to(device),
            Tensor::from(counts, {batch, queries}).to(device)};
}

}  // namespace sieve
