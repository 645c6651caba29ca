#include "models/transformer.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <map>
#include <optional>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/core/timed_part.h"
#include "framework/nn/step_parts.h"
#include "framework/ops/add/add.h"
#include "framework/ops/dropout/dropout.h"
#include "framework/ops/linear/linear.h"
#include "framework/ops/reshape/reshape.h"
#include "framework/ops/scale/scale.h"

namespace sieve {
namespace {

constexpr MemoryUse activation_memory{"activations", {SizeKind::batch, SizeKind::length}};
constexpr MemoryUse attention_memory{"activations of attention", {SizeKind::batch, SizeKind::length}};
constexpr MemoryUse expert_memory{"activations of the experts", {SizeKind::batch, SizeKind::expert_width}};
constexpr MemoryUse logits_memory{"logits and loss", {SizeKind::batch, SizeKind::vocabulary}};

AttentionConfig attention_config(const ModelConfig& config, int64_t layer) {
    AttentionConfig attention{.d_model = config.d_model,
                              .n_heads = config.n_heads,
                              .n_kv_heads = config.kv_heads(),
                              .rope = rope_angles(config),
                              .score_factor = attention_score_factor(config),
                              .materialised = config.materialised,
                              .leaks = config.reads_future()};
    if (config.attention_type == AttentionType::mla)
        attention.latent = LatentAttentionConfig{
            .q_rank = config.q_lora_rank,
            .kv_rank = config.kv_lora_rank,
            .nope_dim = config.qk_nope_head_dim,
            .rope_dim = config.qk_rope_head_dim,
            .value_dim = config.v_head_dim,
            .norm_eps = config.latent_norm_eps > 0 ? config.latent_norm_eps : config.norm_eps,
            .bias = config.attention_bias};
    if (config.is_sparse() && !config.shares_index(layer))
        attention.selector = selector_config(config, layer);
    return attention;
}

MixtureOfExpertsConfig experts_config(const ModelConfig& config) {
    return {.d_model = config.d_model,
            .d_ff = config.d_ff,
            .num_experts = config.num_experts,
            .top_k = config.expert_top_k,
            .shared_experts = config.shared_experts,
            .ffn = config.ffn,
            .router = config.router,
            .weights = config.router_weights,
            .routed_scaling = config.routed_scaling_factor,
            .normalised = config.norm_topk_prob,
            .groups = config.n_group,
            .top_groups = config.topk_group,
            .dropout = config.dropout,
            .router_noise = config.router_noise};
}

// Before the first member takes memory by it.
const ModelConfig& validated(const ModelConfig& config) {
    validate(config);
    return config;
}

Tensor add_residual(const Tensor& residual, const Tensor& update, double dropout, Generator* rng) {
    return rng ? dropout_add(residual, update, dropout, rng->next_key()) : add(residual, update);
}

void check_cache(const ForwardOptions& options, const ModelConfig& config, int64_t tokens) {
    if (!options.cache) return;
    const int64_t layers = config.n_layers;
    if (config.reads_future())
        fail("forward: " + leak_text(config) + "; a text that is being written has no later tokens");
    if (static_cast<int64_t>(options.cache->size()) != layers)
        fail(fmt::format("forward: {} attention caches for {} layers", options.cache->size(), layers));
    if (options.rng || options.indexer_loss)
        fail("forward: a cache is for inference; it goes with neither dropout nor the indexer's loss");
    if (options.cache->front().length() > 0 && tokens != 1)
        fail(fmt::format("forward: {} tokens after {} cached ones; give them one at a time", tokens,
                         options.cache->front().length()));
}

std::map<std::string, Tensor> by_name(const NamedTensors& tensors) {
    std::map<std::string, Tensor> result;
    for (const auto& [name, tensor] : tensors) result.emplace(name, tensor);
    return result;
}

// Where an element stands: "embed.weight[3,5]".
std::string element_name(const std::string& tensor, const Shape& shape, int64_t element) {
    std::string text;
    for (int d = shape.rank() - 1; d >= 0; --d) {
        text = std::to_string(element % shape.dim(d)) + (text.empty() ? "" : ",") + text;
        element /= shape.dim(d);
    }
    return fmt::format("{}[{}]", tensor, text);
}

// The first element for which `is_wrong`, or none.
template <class IsWrong>
std::optional<int64_t> first_element(const Tensor& tensor, IsWrong&& is_wrong) {
    for (int64_t i = 0; i < tensor.numel(); ++i)
        if (is_wrong(i)) return i;
    return std::nullopt;
}

template <class T>
void refuse_non_finite(const std::string& name, const Tensor& tensor, const std::string& source) {
    const T* values = tensor.data<T>();
    if (const auto at = first_element(tensor, [&](int64_t i) { return !std::isfinite(values[i]); }))
        fail_bad_file(fmt::format("{}: {} is {}; a model with such a weight cannot be used", source,
                                  element_name(name, tensor.shape(), *at), values[*at]));
}

}  // namespace

void refuse_non_finite(const NamedTensor& t, const std::string& source) {
    if (t.tensor.dtype() == DType::float32) refuse_non_finite<float>(t.name, t.tensor, source);
    if (t.tensor.dtype() == DType::float64) refuse_non_finite<double>(t.name, t.tensor, source);
}

void refuse_difference(const NamedTensor& a, const NamedTensor& b, const std::string& source) {
    const size_t size = size_of(a.tensor.dtype());
    const char *first = static_cast<const char*>(a.tensor.raw()),
               *second = static_cast<const char*>(b.tensor.raw());
    const auto at = first_element(a.tensor, [&](int64_t i) {
        const auto place = static_cast<size_t>(i) * size;
        return std::memcmp(first + place, second + place, size) != 0;
    });
    if (!at) return;
    const auto value = [&](const Tensor& t) { return t.alias({t.numel()}).rows(*at, *at + 1).item(); };
    fail_bad_file(
        fmt::format("{}: {} and {} are one tensor in this model (tied weights) but differ, first in "
                    "{}: {} and {}; leave out the one that is not meant, or set tie_embeddings to false",
                    source, a.name, b.name, element_name(a.name, a.tensor.shape(), *at), value(a.tensor),
                    value(b.tensor)));
}

namespace {

// Throws when the model cannot hold the values: one is not finite in its dtype, or two names that are one
// tensor of the model (tied weights) have different ones.
void check_values(const NamedTensors& given, const std::map<std::string, Tensor>& wanted,
                  const std::string& source) {
    std::map<const void*, NamedTensor> holders;
    for (const auto& [name, tensor] : given) {
        const Tensor& target = wanted.at(name);
        const NamedTensor value{name, tensor.to(Device{}).to(target.dtype())};
        const auto [holder, is_first] = holders.emplace(target.raw(), value);
        if (is_first)
            refuse_non_finite(value, source);
        else
            refuse_difference(holder->second, value, source);
    }
}

Tensor sum_of(const Tensor& total, const Tensor& term) {
    return total.defined() ? add(total, term) : term;
}

// The mean over the indexers of the mean over the layers that each learns from.
class MeanIndexerLoss {
  public:
    // Of a layer; `begins`: it has an indexer of its own.
    void add(const Tensor& loss, bool begins) {
        if (begins) finish_indexer();
        if (!loss.defined()) return;
        own_ = sum_of(own_, loss);
        ++layers_;
    }
    Tensor mean() {
        finish_indexer();
        return total_.defined() ? scale(total_, 1.0 / static_cast<double>(indexers_)) : total_;
    }

  private:
    void finish_indexer() {
        if (layers_ == 0) return;
        total_ = sum_of(total_, layers_ == 1 ? own_ : scale(own_, 1.0 / static_cast<double>(layers_)));
        ++indexers_;
        own_ = {};
        layers_ = 0;
    }

    Tensor total_, own_;
    int64_t indexers_ = 0, layers_ = 0;
};

}  // namespace

Block::Block(const ParameterInit& init, const std::string& full_name, const ModelConfig& config,
             int64_t layer)
    : norm1(init, config.d_model, config.norm_eps),
      norm2(init, config.d_model, config.norm_eps),
      attention(init, full_name + ".attention", attention_config(config, layer)),
      experts(config.is_dense_layer(layer) ? nullptr
                                           : std::make_unique<MixtureOfExperts>(
                                                 init, full_name + ".feed_forward", experts_config(config))),
      dense(config.is_dense_layer(layer)
                ? std::make_unique<FeedForward>(init, full_name + ".feed_forward", config.d_model,
                                                config.dense_width(), config.ffn)
                : nullptr),
      dropout_(config.dropout) {
    add_child("norm1", norm1);
    add_child("attention", attention);
    add_child("norm2", norm2);
    add_child("feed_forward", experts ? static_cast<const Module&>(*experts) : *dense);
}

MixtureOfExpertsOutput Block::feed_forward(const Tensor& x, Generator* rng) const {
    if (experts) return (*experts)(x, rng);
    const TimedPart part(step_part::experts);
    return {.y = (*dense)(x, dropout_, rng), .load_balancing = {}, .assignments = {}};
}

Transformer::Transformer(const ModelConfig& config, const ParameterInit& init)
    : config_(validated(config)),
      embed_(init, "embed", config.vocab_size, config.d_model),
      norm_(init, config.d_model, config.norm_eps) {
    add_child("embed", embed_);
    for (int64_t i = 0; i < config.n_layers; ++i) {
        const std::string name = "blocks." + std::to_string(i);
        blocks_.push_back(std::make_unique<Block>(init, name, config, i));
        add_child(name, *blocks_.back());
    }
    add_child("norm", norm_);
    if (config.tie_embeddings) return;
    lm_head_ = std::make_unique<Linear>(init, "lm_head", config.d_model, config.vocab_size);
    add_child("lm_head", *lm_head_);
}

// The attention of one block, its norm included.
Tensor Transformer::attend(int64_t layer, const Tensor& h, const ForwardOptions& options,
                           AttentionTrace& trace) const {
    const Block& block = *blocks_[static_cast<size_t>(layer)];
    AttentionCache* cache = options.cache ? &(*options.cache)[static_cast<size_t>(layer)] : nullptr;
    try {
        const bool has_loss = options.indexer_loss && (!config_.shares_index(layer) ||
                                                       config_.index_share_loss == IndexShareLoss::served);
        const std::optional<SelectorLoss> loss = has_loss ? std::optional(options.which_loss) : std::nullopt;
        const Tensor attended = block.attention(block.norm1(h), options.stage, loss, trace, cache);
        if (options.observe) options.observe(layer, trace);
        return attended;
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::diverged) throw;
        throw Error(e.kind(), fmt::format("blocks.{}.attention: {}", layer, e.what()));
    }
}

ModelOutput Transformer::forward(const Tensor& tokens, const ForwardOptions& options) const {
    if (tokens.rank() != 2) fail("forward: tokens are " + to_string(tokens.shape()) + ", want [B,T]");
    const int64_t B = tokens.dim(0), T = tokens.dim(1);
    check_cache(options, config_, T);
    const Shape rows{B * T, config_.d_model}, cube{B, T, config_.d_model};
    ModelOutput output;
    const MemoryScope scope(activation_memory);
    const auto watch = [&](int64_t block, const char* part, const Tensor& made) {
        if (options.watch) options.watch(fmt::format("blocks.{}.{}", block, part), made);
    };
    Tensor h = embed_(tokens);
    if (options.watch) options.watch("embed", h);
    MeanIndexerLoss indexer_loss;
    LayerSelection shared;
    int64_t layer = 0;
    for (const auto& block : blocks_) {
        AttentionTrace trace;
        if (config_.shares_index(layer)) static_cast<LayerSelection&>(trace) = shared;
        std::optional<MemoryScope> part(std::in_place, attention_memory);
        const Tensor attended = attend(layer, h, options, trace);
        watch(layer, "attention", attended);
        indexer_loss.add(trace.indexer_loss, !config_.shares_index(layer));
        if (!config_.index_share.empty()) shared = static_cast<const LayerSelection&>(trace);
        h = add_residual(h, attended, config_.dropout, options.rng);

        part.emplace(expert_memory);
        const MixtureOfExpertsOutput fed = block->feed_forward(reshape(block->norm2(h), rows), options.rng);
        watch(layer, "feed_forward", fed.y);
        if (block->experts) output.load_balancing = sum_of(output.load_balancing, fed.load_balancing);
        output.assignments.push_back(fed.assignments);
        h = add_residual(h, reshape(fed.y, cube), config_.dropout, options.rng);
        ++layer;
    }
    if (!config_.has_experts()) output.load_balancing = Tensor::zeros({}, h.dtype(), h.device());
    output.indexer_loss = indexer_loss.mean();
    const MemoryScope head(logits_memory);
    const TimedPart part(step_part::head);
    if (options.logits) output.logits = linear(reshape(norm_(h), rows), head_weight());
    if (options.watch && options.logits) options.watch("lm_head", output.logits);
    return output;
}

void Transformer::balance_routers(const std::vector<Tensor>& assignments, double speed,
                                  const Tensor& guard) const {
    for (size_t i = 0; i < blocks_.size(); ++i)
        if (blocks_[i]->experts) blocks_[i]->experts->router().balance(assignments[i], speed, guard);
}

bool is_indexer_parameter(const std::string& name) {
    return name.find(".indexer.") != std::string::npos;
}

NamedTensors Transformer::state() const {
    NamedTensors all = parameters();
    for (NamedTensor& buffer : buffers()) all.push_back(std::move(buffer));
    if (!lm_head_) all.push_back({"lm_head.weight", embed_.weight()});
    return all;
}

NamedTensors Transformer::main_parameters() const {
    NamedTensors some;
    for (const NamedTensor& p : parameters())
        if (!is_indexer_parameter(p.name)) some.push_back(p);
    return some;
}

NamedTensors Transformer::indexer_parameters() const {
    NamedTensors some;
    for (const NamedTensor& p : parameters())
        if (is_indexer_parameter(p.name)) some.push_back(p);
    return some;
}

void Transformer::load_state(const NamedTensors& tensors, const std::string& source,
                             bool allow_missing_indexer) const {
    const std::map<std::string, Tensor> given = by_name(tensors), wanted = by_name(state());
    // All checks come before the first copy: a refused file leaves the model as it was.
    for (const auto& [name, target] : wanted) {
        const auto found = given.find(name);
        if (found == given.end() && name == "lm_head.weight" && lm_head_)
            fail_bad_file(
                source +
                ": has no tensor lm_head.weight: its embeddings are tied, and this model's head has "
                "a matrix of its own (tie_embeddings false); want tie_embeddings true");
        const bool optional =
            name == "lm_head.weight" || (allow_missing_indexer && is_indexer_parameter(name));
        if (found == given.end() && !optional)
            fail_bad_file(
                fmt::format("{}: has no tensor {}; is it a checkpoint of another model?", source, name));
        if (found != given.end() && found->second.shape() != target.shape())
            fail_bad_file(fmt::format("{}: {} is {}, this model's is {}; does the config belong to it?",
                                      source, name, to_string(found->second.shape()),
                                      to_string(target.shape())));
    }
    for (const auto& [name, value] : given)
        if (!wanted.count(name))
            fail_bad_file(fmt::format("{}: holds {}, which this {} model does not have", source, name,
                                      name_of(config_.attention)));
    check_values(tensors, wanted, source);
    for (const auto& [name, value] : given) wanted.at(name).copy_from(value);
}

}  // namespace sieve
