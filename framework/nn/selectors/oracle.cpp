#include "framework/nn/selectors/oracle.h"

#include "framework/nn/selectors/key_panels.h"
#include "framework/ops/attention_select/attention_select.h"

namespace sieve {
namespace {

struct OracleState : SelectorState {
    explicit OracleState(MainAttention all) : attention(std::move(all)) {}
    MainAttention attention;
};

struct OracleCache : SelectorCache {
    KeyPanels keys;  // of all batch rows' key heads
};

class Oracle : public Selector {
  public:
    explicit Oracle(int64_t top_k) : top_k_(top_k) {}

    std::shared_ptr<const SelectorState> project(const SelectorInput& input) const override {
        return std::make_shared<OracleState>(input.attention);
    }

    Selection select(const SelectorState& state) const override {
        return attention_select(attention_of(state), top_k_);
    }

    std::unique_ptr<SelectorCache> make_cache() const override { return std::make_unique<OracleCache>(); }

    void append(const SelectorState& state, SelectorCache& cache) const override {
        const Tensor& k = attention_of(state).k;
        static_cast<OracleCache&>(cache).keys.append(k.alias({k.dim(0) * k.dim(1), k.dim(2), k.dim(3)}));
    }

    Selection select_next(const SelectorState& state, const SelectorCache& cache,
                          int64_t length) const override {
        const MainAttention& attention = attention_of(state);
        return attention_select_next(attention.q, attention.scale,
                                     static_cast<const OracleCache&>(cache).keys.panels, length, top_k_);
    }

  private:
    static const MainAttention& attention_of(const SelectorState& state) {
        return static_cast<const OracleState&>(state).attention;
    }

    int64_t top_k_;
};

}  // namespace

std::unique_ptr<Selector> make_oracle(const ParameterInit&, const SelectorPlace&,
                                      const SelectorConfig& config) {
    return std::make_unique<Oracle>(config.top_k);
}

}  // namespace sieve
