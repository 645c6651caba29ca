#include "framework/nn/selectors/pooled_indexer.h"

#include "framework/nn/selectors/key_blocks.h"

namespace sieve {
namespace {

struct PooledCache : SelectorCache {
    CachedBlocks keys;
};

// k [B,T,dI] with the one key head that all heads share.
Tensor with_head(const Tensor& k) {
    return k.alias({k.dim(0), 1, k.dim(1), k.dim(2)});
}

}  // namespace

PooledIndexer::PooledIndexer(const ParameterInit& init, const SelectorPlace& place,
                             const IndexerConfig& config, int64_t block, int64_t top_k)
    : LightningIndexer(init, place, config), block_(block), top_k_(top_k) {}

Selection PooledIndexer::select(const SelectorState& state) const {
    const IndexerOperands& operands = operands_of(state);
    const Tensor k = with_head(operands.k);
    return choose(operands, k, blocks_of(k, block_));
}

std::unique_ptr<SelectorCache> PooledIndexer::make_cache() const {
    return std::make_unique<PooledCache>();
}

void PooledIndexer::append(const SelectorState& state, SelectorCache& cache) const {
    static_cast<PooledCache&>(cache).keys.append(with_head(operands_of(state).k), block_);
}

Selection PooledIndexer::select_next(const SelectorState& state, const SelectorCache& cache, int64_t) const {
    const CachedBlocks& held = static_cast<const PooledCache&>(cache).keys;
    return choose(operands_of(state), held.keys, held.blocks);
}

Selection PooledIndexer::choose(const IndexerOperands& queries, const Tensor&,
                                const KeyBlocks& blocks) const {
    return block_select(queries.q, queries.w, queries.scale, blocks, top_k_);
}

}  // namespace sieve
