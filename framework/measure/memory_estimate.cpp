#include "framework/measure/memory_estimate.h"

#include <algorithm>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/ops/add/add.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/ops/rope/rope.h"

namespace sieve {
namespace {

double tokens_of(const ExperimentConfig& c) {
    return static_cast<double>(c.batch_size * c.model.max_seq_len);
}

// Bytes of one layer's T x T scores.
double score_bytes(const ExperimentConfig& c) {
    return c.model.materialised
               ? 4 * tokens_of(c) * static_cast<double>(c.model.n_heads * c.model.max_seq_len)
               : 0;
}

// Of the tables of RoPE, which all layers share. They are made once, so that no step of the probe holds them.
double rope_bytes(const ModelConfig& m) {
    const auto table = [&](int64_t dims) {
        return static_cast<double>(rope_table_bytes(m.max_seq_len, dims, DType::float32));
    };
    const int64_t dims = m.rotary_dims(), of_indexer = m.indexer_rotary_dims();
    const bool another = m.has_indexer() && m.indexer == IndexerKind::deepseek && of_indexer != dims;
    return table(dims) + (another ? table(of_indexer) : 0);
}

double mean_top_k(const ExperimentConfig& c) {
    double sum = 0;
    for (int64_t layer = 0; layer < c.model.n_layers; ++layer)
        sum += static_cast<double>(std::min(c.model.sparse_top_k.of(layer), c.model.max_seq_len));
    return sum / static_cast<double>(c.model.n_layers);
}

// One short window, for which a step takes what it takes for each token of a long one.
ExperimentConfig probe(ExperimentConfig config, int64_t top_k) {
    config.batch_size = 1;
    config.model.max_seq_len = 128;
    config.model.sparse_top_k = top_k;
    config.model.materialised = false;  // counted apart: it does not grow with the tokens alone
    return config;
}

// The loss of a forward; it keeps the forward's graph alive.
Tensor loss_of(const Transformer& model, const Batch& batch, Generator* rng) {
    const bool sparse = model.config().is_sparse();
    const ModelOutput out = model.forward(batch.tokens, {.rng = rng, .indexer_loss = sparse});
    Tensor loss = cross_entropy(out.logits, batch.targets.alias({batch.targets.numel()}));
    for (const Tensor& other : {out.load_balancing, out.indexer_loss})
        if (other.defined()) loss = add(loss, other);
    return loss;
}

}  // namespace

MemoryEstimate::PerToken MemoryEstimate::measure(const ExperimentConfig& config, Device device) {
    const Transformer model(config.model, {.device = device});
    Batch batch = random_batch(config, 0);
    batch = {batch.tokens.to(device), batch.targets.to(device)};
    Generator rng(1, 0);
    loss_of(model, batch, &rng);  // makes what is made once
    const int64_t before = memory_stats(device).live_bytes;
    PerToken result;
    {
        const Tensor loss = loss_of(model, batch, &rng);
        result.kept = static_cast<double>(memory_stats(device).live_bytes - before) / tokens_of(config);
    }
    const NoGrad guard;
    reset_peak_memory(device);
    loss_of(model, batch, nullptr);
    result.passing = static_cast<double>(memory_stats(device).peak_bytes - before) / tokens_of(config);
    return result;
}

MemoryEstimate::MemoryEstimate(const ExperimentConfig& config, Device device) {
    constexpr int64_t few = 8, many = 40;
    {
        const TimedModel model(probe(config, few), device);
        state_bytes_ = static_cast<double>(model.state_bytes());
        parameter_bytes_ = static_cast<double>(model.parameter_bytes());
    }
    token_ = measure(probe(config, few), device);
    if (!config.model.is_sparse()) return;
    const PerToken wide = measure(probe(config, many), device);
    selected_ = {(wide.kept - token_.kept) / (many - few), (wide.passing - token_.passing) / (many - few)};
    token_.kept -= few * selected_.kept;
    token_.passing -= few * selected_.passing;
}

int64_t MemoryEstimate::bytes(const ExperimentConfig& config, StepKind kind) const {
    const double tokens = tokens_of(config), scores = score_bytes(config), top_k = mean_top_k(config);
    // At one time there are two tensors of scores beside those that are kept.
    double bytes = state_bytes_ + rope_bytes(config.model) +
                   tokens * (token_.passing + top_k * selected_.passing) + 2 * scores;
    if (kind == StepKind::train)
        bytes += parameter_bytes_ + tokens * (token_.kept + top_k * selected_.kept) +
                 scores * static_cast<double>(config.model.n_layers);
    return static_cast<int64_t>(bytes);
}

}  // namespace sieve
