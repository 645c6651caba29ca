#include "framework/nn/selectors/random.h"

#include <algorithm>
#include <numeric>

#include "framework/core/rng.h"
#include "framework/nn/selectors/positional.h"

namespace sieve {
namespace {

class Random : public PositionalSelector {
  public:
    Random(int64_t top_k, const RngKey& stream) : PositionalSelector(top_k), stream_(stream) {}

  private:
    void write_keys(int64_t t, std::span<int32_t> keys) const override {
        std::vector<int32_t> order(static_cast<size_t>(t + 1));
        std::iota(order.begin(), order.end(), 0);
        if (keys.size() < order.size()) draw(t, order, keys.size());
        std::copy_n(order.begin(), keys.size(), keys.begin());
    }

    // Brings the `count` keys that query t draws to the front of `order`, which holds 0..t; they ascend.
    void draw(int64_t t, std::vector<int32_t>& order, size_t count) const {
        std::vector<uint32_t> numbers;
        numbers.reserve(order.size());
        for (const int32_t s : order)
            numbers.push_back(
                philox(stream_, static_cast<uint64_t>(t) << 32 | static_cast<uint64_t>(s)).v[0]);
        const auto end = order.begin() + static_cast<int64_t>(count);
        std::nth_element(order.begin(), end, order.end(), [&](int32_t a, int32_t b) {
            const uint32_t x = numbers[static_cast<size_t>(a)], y = numbers[static_cast<size_t>(b)];
            return x != y ? x > y : a < b;
        });
        std::sort(order.begin(), end);
    }

    RngKey stream_;
};

}  // namespace

std::unique_ptr<Selector> make_random(const ParameterInit&, const SelectorPlace&,
                                      const SelectorConfig& config) {
    return std::make_unique<Random>(config.top_k, RngKey{.seed = static_cast<uint64_t>(config.seed),
                                                         .stream = static_cast<uint64_t>(config.layer)});
}

}  // namespace sieve
