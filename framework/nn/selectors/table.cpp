// The table of selectors: the one place that knows them all.
#include <algorithm>

#include "framework/core/error.h"
#include "framework/nn/selector.h"
#include "framework/nn/selectors/block_mean.h"
#include "framework/nn/selectors/hisa.h"
#include "framework/nn/selectors/indexer.h"
#include "framework/nn/selectors/oracle.h"
#include "framework/nn/selectors/random.h"
#include "framework/nn/selectors/recent.h"
#include "framework/nn/selectors/sink_recent.h"

namespace sieve {
namespace {

double indexer_products(const SelectorConfig& config, double, double keys) {
    const auto scored = keys / static_cast<double>(config.indexer.pool);
    return static_cast<double>(config.indexer.heads * config.indexer.dim) * scored;
}
double hisa_products(const SelectorConfig& config, double, double keys) {
    const auto blocks = keys / static_cast<double>(config.block);
    const auto candidates = std::min(keys, static_cast<double>(config.candidates * config.top_k));
    return static_cast<double>(config.indexer.heads * config.indexer.dim) * (blocks + candidates);
}
double block_products(const SelectorConfig& config, double attention_width, double keys) {
    return attention_width * keys / static_cast<double>(config.block);
}
double attention_products(const SelectorConfig&, double attention_width, double keys) {
    return attention_width * keys;
}

}  // namespace

const std::vector<SelectorKind>& selector_kinds() {
    static const std::vector<SelectorKind> kinds{
        {"indexer", "the keys that a lightning indexer scores highest", true, indexer_products, make_indexer},
        {"hisa", "the best by the indexer's scores in the blocks that it scores best", true, hisa_products,
         make_hisa},
        {"block_mean", "the blocks whose mean keys attention looks at most", false, block_products,
         make_block_mean},
        {"oracle", "the keys that attention looks at most", false, attention_products, make_oracle},
        {"recent", "the last keys", false, nullptr, make_recent},
        {"sink_recent", "the first and the last keys", false, nullptr, make_sink_recent},
        {"random", "keys by lot", false, nullptr, make_random},
    };
    return kinds;
}

const SelectorKind& selector_kind(const std::string& name) {
    std::string names;
    for (const SelectorKind& kind : selector_kinds()) {
        if (name == kind.name) return kind;
        names += (names.empty() ? "" : ", ") + std::string(kind.name);
    }
    fail_usage("selector: '" + name + "', want one of " + names);
}

}  // namespace sieve
