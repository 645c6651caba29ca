#include "framework/nn/selectors/hisa.h"

#include "framework/nn/selectors/pooled_indexer.h"
#include "framework/ops/select_among/select_among.h"

namespace sieve {
namespace {

class Hisa : public PooledIndexer {
  public:
    Hisa(const ParameterInit& init, const SelectorPlace& place, const SelectorConfig& config)
        : PooledIndexer(init, place, config.indexer, config.block, config.candidates * config.top_k),
          top_k_(config.top_k) {}

  private:
    Selection choose(const IndexerOperands& queries, const Tensor& k,
                     const KeyBlocks& blocks) const override {
        return select_among(PooledIndexer::choose(queries, k, blocks), queries.q, queries.w, queries.scale,
                            k.alias({k.dim(0), k.dim(2), k.dim(3)}), blocks.length, top_k_);
    }

    int64_t top_k_;
};

}  // namespace

std::unique_ptr<Selector> make_hisa(const ParameterInit& init, const SelectorPlace& place,
                                    const SelectorConfig& config) {
    return std::make_unique<Hisa>(init, place, config);
}

}  // namespace sieve
