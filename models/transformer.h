// The language model of both variants: a pre-norm decoder.
//
//   h  = embed[tokens]                                   [B,T,d]
//   h += dropout(attention(rms_norm(h)))                 for each block
//   h += dropout(moe(rms_norm(h)))                       or one dense feed-forward: config's ffn_layers
//   logits = rms_norm(h) embed^T                         [B,T,V]; or lm_head^T: its tie_embeddings
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "framework/nn/attention.h"
#include "framework/nn/feed_forward.h"
#include "framework/nn/mixture_of_experts.h"
#include "models/config.h"

namespace sieve {

class Block : public Module {
  public:
    Block(const ParameterInit& init, const std::string& full_name, const ModelConfig& config, int64_t layer);
    // x [N,d]. Of a dense layer y alone is defined.
    MixtureOfExpertsOutput feed_forward(const Tensor& x, Generator* rng) const;

    const RMSNorm norm1, norm2;
    const SelfAttention attention;
    const std::unique_ptr<MixtureOfExperts> experts;  // null: a dense layer
    const std::unique_ptr<FeedForward> dense;         // null: one with experts

  private:
    double dropout_;
};

struct ForwardOptions {
    AttentionStage stage = AttentionStage::sparse;      // a classic model attends densely whatever this says
    Generator* rng = nullptr;                           // set: training (dropout and router noise)
    bool indexer_loss = false;                          // sparse model: also compute the indexers' loss
    SelectorLoss which_loss = SelectorLoss::alignment;  // which of them that is
    bool logits = true;                                 // false: stop before the output head
    // Set: the tokens follow those that it holds, and are added to it. One AttentionCache a layer; T is 1
    // unless they are empty. Not in training, and not with indexer_loss. See models/decoder.h.
    std::vector<AttentionCache>* cache = nullptr;
    // Called after each layer's attention.
    std::function<void(int64_t layer, const AttentionTrace&)> observe;
    // Called with the output of each part: "embed", "blocks.0.attention", "blocks.0.feed_forward", ...,
    // "lm_head".
    std::function<void(const std::string& part, const Tensor& output)> watch;
};

struct ModelOutput {
    Tensor logits;                    // [B*T, V]
    Tensor load_balancing;            // scalar: sum over layers, unweighted; 0 without experts
    Tensor indexer_loss;              // scalar: mean over the indexers; undefined unless asked for
    std::vector<Tensor> assignments;  // by layer: see MixtureOfExpertsOutput; undefined for a dense one
};

class Transformer : public Module {
  public:
    // Throws a usage error for a configuration that is not valid, before it takes any memory.
    Transformer(const ModelConfig& config, const ParameterInit& init);
    // Throws as the ops do; an Error(diverged) of a layer's attention (its scores are NaN) says which
    // layer's.
    ModelOutput forward(const Tensor& tokens /* int32 [B,T] */, const ForwardOptions& options) const;
    const ModelConfig& config() const { return config_; }
    Device device() const { return embed_.weight().device(); }  // where the weights are and tokens must be

    // Lets the routers' biases react to the load of a training step (router sigmoid_bias; nothing otherwise).
    void balance_routers(const std::vector<Tensor>& assignments, double speed,
                         const Tensor& guard = {}) const;

    // Parameters and buffers, named as in the original PyTorch model; with tied embeddings lm_head.weight is
    // the same tensor as embed.weight.
    NamedTensors state() const;
    NamedTensors main_parameters() const;     // all but the indexers'
    NamedTensors indexer_parameters() const;  // empty in a classic model
    // Copies values by name. Every tensor must be present with its shape, and nothing else, unless
    // `allow_missing_indexer`: then a classic model's weights may start a sparse model. All values must be
    // finite, and those of two names that are one tensor here (tied weights) the same bits. Throws a bad_file
    // error that begins with `source`; then the model is as it was.
    void load_state(const NamedTensors& tensors, const std::string& source,
                    bool allow_missing_indexer = false) const;

  private:
    const Tensor& head_weight() const { return lm_head_ ? lm_head_->weight() : embed_.weight(); }
    Tensor attend(int64_t layer, const Tensor& h, const ForwardOptions& options, AttentionTrace& trace) const;

    ModelConfig config_;
    Embedding embed_;
    std::vector<std::unique_ptr<Block>> blocks_;
    RMSNorm norm_;
    std::unique_ptr<Linear> lm_head_;  // null: tied embeddings
};

bool is_indexer_parameter(const std::string& name);

// What no model can use: a bad_file error that begins with `source` and names the element. For CPU tensors.
void refuse_non_finite(const NamedTensor& tensor, const std::string& source);
// The same for two names of one tensor (tied weights), of one shape and dtype, that have different bits.
void refuse_difference(const NamedTensor& a, const NamedTensor& b, const std::string& source);

}  // namespace sieve
