#include "framework/nn/selectors/sink_recent.h"

#include <algorithm>
#include <numeric>

#include "framework/nn/selectors/positional.h"

namespace sieve {
namespace {

class SinkRecent : public PositionalSelector {
  public:
    SinkRecent(int64_t top_k, int64_t sinks)
        : PositionalSelector(top_k), sinks_(std::min(sinks, top_k - 1)) {}

  private:
    void write_keys(int64_t t, std::span<int32_t> keys) const override {
        const auto count = static_cast<int64_t>(keys.size()), first = std::min(sinks_, count);
        const auto rest = keys.begin() + first;
        std::iota(keys.begin(), rest, 0);
        std::iota(rest, keys.end(), static_cast<int32_t>(t + 1 - (count - first)));
    }

    int64_t sinks_;
};

}  // namespace

std::unique_ptr<Selector> make_sink_recent(const ParameterInit&, const SelectorPlace&,
                                           const SelectorConfig& config) {
    return std::make_unique<SinkRecent>(config.top_k, config.sinks);
}

}  // namespace sieve
