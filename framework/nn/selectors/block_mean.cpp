#include "framework/nn/selectors/block_mean.h"

#include "framework/nn/selectors/key_blocks.h"

namespace sieve {
namespace {

struct BlockMeanState : SelectorState {
    explicit BlockMeanState(MainAttention all) : attention(std::move(all)) {}
    MainAttention attention;
};

struct BlockMeanCache : SelectorCache {
    CachedBlocks keys;
};

class BlockMean : public Selector {
  public:
    BlockMean(int64_t top_k, int64_t block) : top_k_(top_k), block_(block) {}

    std::shared_ptr<const SelectorState> project(const SelectorInput& input) const override {
        return std::make_shared<BlockMeanState>(input.attention);
    }

    Selection select(const SelectorState& state) const override {
        const MainAttention& attention = attention_of(state);
        return block_select(attention.q, blocks_of(attention.k, block_), top_k_);
    }

    std::unique_ptr<SelectorCache> make_cache() const override { return std::make_unique<BlockMeanCache>(); }

    void append(const SelectorState& state, SelectorCache& cache) const override {
        static_cast<BlockMeanCache&>(cache).keys.append(attention_of(state).k, block_);
    }

    Selection select_next(const SelectorState& state, const SelectorCache& cache, int64_t) const override {
        return block_select(attention_of(state).q, static_cast<const BlockMeanCache&>(cache).keys.blocks,
                            top_k_);
    }

  private:
    static const MainAttention& attention_of(const SelectorState& state) {
        return static_cast<const BlockMeanState&>(state).attention;
    }

    int64_t top_k_, block_;
};

}  // namespace

std::unique_ptr<Selector> make_block_mean(const ParameterInit&, const SelectorPlace&,
                                          const SelectorConfig& config) {
    return std::make_unique<BlockMean>(config.top_k, config.block);
}

}  // namespace sieve
