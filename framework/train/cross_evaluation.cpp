#include "framework/train/cross_evaluation.h"

#include <algorithm>

#include "framework/core/error.h"
#include "framework/core/named_enum.h"

namespace sieve {

std::vector<std::string> readings_of(const ModelConfig& config) {
    std::vector<std::string> readings{dense_reading};
    for (const SelectorKind& kind : selector_kinds())
        if (!kind.has_indexer || config.has_indexer()) readings.emplace_back(kind.name);
    return readings;
}

std::unique_ptr<Transformer> read_by(const Transformer& model, const std::string& reading, int64_t top_k) {
    const std::vector<std::string> known = readings_of(model.config());
    if (std::find(known.begin(), known.end(), reading) == known.end())
        fail_usage_of("eval_selector", reading,
                      wanted_name(reading, known) +
                          (model.config().has_indexer() ? "" : "; this model has no indexer"));
    ModelConfig config = model.config();
    config.attention = reading == dense_reading ? AttentionKind::classic : AttentionKind::sparse;
    if (reading != dense_reading && reading != config.selector) {
        config.selector = reading;
        config.indexer_precision = IndexerPrecision::fp32;
    }
    if (top_k > 0) config.sparse_top_k = top_k;
    auto other = std::make_unique<Transformer>(config, ParameterInit{.std = 0, .device = model.device()});
    NamedTensors state;
    for (NamedTensor& each : model.state())
        if (config.has_indexer() || !is_indexer_parameter(each.name)) state.push_back(std::move(each));
    other->load_state(state, "the trained model");
    return other;
}

}  // namespace sieve
