#include "framework/nn/selectors/recent.h"

#include <algorithm>

#include "framework/attention/selection/check_selection.h"

namespace sieve {
namespace {

struct RecentState : SelectorState {
    int64_t batch = 0, length = 0;
    Device device;
};

class Recent : public Selector {
  public:
    explicit Recent(int64_t top_k) : top_k_(top_k) {}

    std::shared_ptr<const SelectorState> project(const SelectorInput& input) const override {
        auto state = std::make_shared<RecentState>();
        state->batch = input.x.dim(0);
        state->length = input.x.dim(1);
        state->device = input.x.device();
        return state;
    }

    // Made anew only for other sizes: a recorded step on a device may not copy from the host.
    Selection select(const SelectorState& state) const override {
        const auto& s = static_cast<const RecentState&>(state);
        const Shape rows{s.batch, s.length};
        if (!made_.counts.defined() || made_.counts.shape() != rows || made_.counts.device() != s.device)
            made_ = last_keys(s, s.length, s.length);
        return made_;
    }

    std::unique_ptr<SelectorCache> make_cache() const override { return std::make_unique<SelectorCache>(); }
    void append(const SelectorState&, SelectorCache&) const override {}

    Selection select_next(const SelectorState& state, const SelectorCache&, int64_t length) const override {
        return last_keys(static_cast<const RecentState&>(state), 1, length);
    }

  private:
    // Of the last `queries` of `length` tokens. Filled on the host: it depends on the sizes alone.
    Selection last_keys(const RecentState& s, int64_t queries, int64_t length) const {
        const int64_t slots = std::min(top_k_, length);
        std::vector<int32_t> indices(static_cast<size_t>(s.batch * queries * slots), 0);
        std::vector<int32_t> counts(static_cast<size_t>(s.batch * queries));
        for (int64_t row = 0; row < s.batch * queries; ++row) {
            const int64_t t = length - queries + row % queries, count = std::min(slots, t + 1);
            counts[static_cast<size_t>(row)] = static_cast<int32_t>(count);
            for (int64_t i = 0; i < count; ++i)
                indices[static_cast<size_t>(row * slots + i)] = static_cast<int32_t>(t + 1 - count + i);
        }
        return {Tensor::from(indices, {s.batch, queries, slots}).to(s.device),
                Tensor::from(counts, {s.batch, queries}).to(s.device)};
    }

    int64_t top_k_;
    mutable Selection made_;
};

}  // namespace

std::unique_ptr<Selector> make_recent(const ParameterInit&, const SelectorPlace&,
                                      const SelectorConfig& config) {
    return std::make_unique<Recent>(config.top_k);
}

}  // namespace sieve
