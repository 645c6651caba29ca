#include "framework/nn/selectors/recent.h"

#include <numeric>

#include "framework/nn/selectors/positional.h"

namespace sieve {
namespace {

class Recent : public PositionalSelector {
  public:
    using PositionalSelector::PositionalSelector;

  private:
    void write_keys(int64_t t, std::span<int32_t> keys) const override {
        std::iota(keys.begin(), keys.end(), static_cast<int32_t>(t + 1) - static_cast<int32_t>(keys.size()));
    }
};

}  // namespace

std::unique_ptr<Selector> make_recent(const ParameterInit&, const SelectorPlace&,
                                      const SelectorConfig& config) {
    return std::make_unique<Recent>(config.top_k);
}

}  // namespace sieve
