#include "framework/nn/selectors/indexer.h"

#include "framework/nn/growing_rows.h"
#include "framework/nn/selectors/key_panels.h"
#include "framework/nn/selectors/lightning_indexer.h"
#include "framework/nn/selectors/pooled_indexer.h"
#include "framework/ops/decode_select/decode_select.h"

namespace sieve {
namespace {

// The keys of a sequence as decode_select reads them.
struct IndexerCache : SelectorCache {
    KeyPanels keys;
    Tensor key_scales;  // [B,1,C,1]; undefined unless the precision is int8
};

class Indexer : public LightningIndexer {
  public:
    Indexer(const ParameterInit& init, const SelectorPlace& place, const SelectorConfig& config)
        : LightningIndexer(init, place, config.indexer),
          top_k_(config.top_k),
          precision_(config.indexer.precision) {}

    Selection select(const SelectorState& state) const override {
        return indexer_select(operands_of(state), top_k_, precision_);
    }

    std::unique_ptr<SelectorCache> make_cache() const override { return std::make_unique<IndexerCache>(); }

    void append(const SelectorState& state, SelectorCache& cache) const override {
        auto& held = static_cast<IndexerCache&>(cache);
        const RoundedKeys keys = rounded_keys(operands_of(state).k, precision_);
        if (const Tensor& scales = keys.scales; scales.defined())
            append_rows("indexer key scales", held.key_scales, held.keys.length,
                        scales.alias({scales.dim(0), 1, scales.dim(1), 1}));
        held.keys.append(keys.k);
    }

    Selection select_next(const SelectorState& state, const SelectorCache& cache,
                          int64_t length) const override {
        const auto& held = static_cast<const IndexerCache&>(cache);
        const IndexerOperands& operands = operands_of(state);
        const RoundedQueries query = rounded_queries(operands.q, operands.w, precision_);
        const Tensor& scales = held.key_scales;
        return decode_select(
            {.q = query.q, .w = query.w, .scale = operands.scale},
            {.panels = held.keys.panels,
             .length = length,
             .scales = scales.defined() ? scales.alias({scales.dim(0), scales.dim(2)}) : Tensor()},
            top_k_);
    }

    std::optional<Selection> select_unrounded(const SelectorState& state) const override {
        if (precision_ == IndexerPrecision::fp32) return std::nullopt;
        return indexer_select(operands_of(state), top_k_);
    }

  private:
    int64_t top_k_;
    IndexerPrecision precision_;
};

}  // namespace

std::unique_ptr<Selector> make_indexer(const ParameterInit& init, const SelectorPlace& place,
                                       const SelectorConfig& config) {
    const int64_t pool = config.indexer.pool;
    if (pool > 1) return std::make_unique<PooledIndexer>(init, place, config.indexer, pool, config.top_k);
    return std::make_unique<Indexer>(init, place, config);
}

}  // namespace sieve
