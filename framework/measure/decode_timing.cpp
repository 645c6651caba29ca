#include "framework/measure/decode_timing.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <set>

#include "framework/core/memory_rate.h"
#include "framework/core/precision.h"
#include "framework/core/rng.h"
#include "models/decoder.h"

namespace sieve {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

double weight_bytes(const Transformer& model) {
    const ModelConfig& c = model.config();
    const double used = static_cast<double>(c.expert_top_k) / static_cast<double>(c.num_experts);
    const bool halved = precision() == Precision::bf16;
    std::set<const void*> seen;  // tied weights are read once
    double bytes = 0;
    for (const auto& [name, weight] : model.state()) {
        if (!seen.insert(weight.raw()).second) continue;
        const bool expert = name.find(".experts.") != std::string::npos;
        bytes += static_cast<double>(weight.bytes()) * (expert ? used : 1) *
                 (halved && weight.rank() == 2 ? 0.5 : 1);
    }
    return bytes;
}

double cache_bytes(const ModelConfig& c, int64_t length) {
    const bool latent = c.attention_type == AttentionType::mla;
    const int64_t head = c.d_model / c.n_heads;
    const int64_t row = latent ? 2 * c.kv_lora_rank + c.qk_rope_head_dim : 2 * head * c.kv_heads();
    double elements = 0;
    for (int64_t layer = 0; layer < c.n_layers; ++layer) {
        const int64_t read = c.is_sparse() ? std::min(length, c.sparse_top_k.of(layer)) : length;
        elements += static_cast<double>(read * row);
        if (c.has_indexer() && !c.shares_index(layer))
            elements += static_cast<double>(length * c.indexer_dim);
    }
    return elements * sizeof(float);
}

struct TimedDecoder {
    explicit TimedDecoder(const ModelConfig& config) : model(config, ParameterInit{}), decoder(model) {}
    Transformer model;
    Decoder decoder;
    std::vector<double> seconds;
};

}  // namespace

std::vector<DecodeTiming> time_decoding(const ModelConfig& config, const std::vector<AttentionKind>& kinds,
                                        int64_t context, int64_t tokens) {
    std::vector<int32_t> text(static_cast<size_t>(context + tokens));
    for (size_t i = 0; i < text.size(); ++i)
        text[i] = static_cast<int32_t>(philox({7, 0}, i).v[0] % static_cast<uint64_t>(config.vocab_size));
    std::vector<std::unique_ptr<TimedDecoder>> decoders;
    for (const AttentionKind kind : kinds) {
        ModelConfig of_kind = config;
        of_kind.attention = kind;
        decoders.push_back(std::make_unique<TimedDecoder>(of_kind));
        decoders.back()->decoder.read(std::span(text).first(static_cast<size_t>(context)));
    }
    for (int64_t i = 0; i < tokens; ++i)
        for (const auto& d : decoders) {
            const auto start = Clock::now();
            d->decoder.read(std::span(text).subspan(static_cast<size_t>(context + i), 1));
            d->seconds.push_back(seconds_since(start));
        }
    std::vector<DecodeTiming> timings;
    for (const auto& d : decoders) {
        DecodeTiming t{.attention = d->model.config().attention, .seconds = time_spread_of(d->seconds)};
        t.weight_bytes = weight_bytes(d->model);
        t.cache_bytes = cache_bytes(d->model.config(), context + tokens / 2);
        t.read_rate = measured_read_rate(static_cast<int64_t>(t.weight_bytes + t.cache_bytes));
        timings.push_back(t);
    }
    return timings;
}

}  // namespace sieve
