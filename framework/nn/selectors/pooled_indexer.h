// Private to this room.
// A lightning indexer that scores blocks of keys: by the mean of their indexer keys, which is as if one
// averaged key stood for `block` tokens (ops/block_select, lightning scores). The query's own block is always
// read. Scores are float32's. It is trained as the indexer is, token by token.
#pragma once

#include "framework/nn/selectors/lightning_indexer.h"
#include "framework/ops/block_select/block_select.h"

namespace sieve {

class PooledIndexer : public LightningIndexer {
  public:
    PooledIndexer(const ParameterInit& init, const SelectorPlace& place, const IndexerConfig& config,
                  int64_t block, int64_t top_k);

    Selection select(const SelectorState& state) const override;
    std::unique_ptr<SelectorCache> make_cache() const override;
    void append(const SelectorState& state, SelectorCache& cache) const override;
    Selection select_next(const SelectorState& state, const SelectorCache& cache, int64_t) const override;

  protected:
    // What the last queries read of k [B,1,C,dI], whose blocks are `blocks`.
    virtual Selection choose(const IndexerOperands& queries, const Tensor& k, const KeyBlocks& blocks) const;

  private:
    int64_t block_, top_k_;
};

}  // namespace sieve
