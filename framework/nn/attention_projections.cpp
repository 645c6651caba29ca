#include "framework/nn/attention_projections.h"

#include <cmath>

#include "framework/ops/head_linear/head_linear.h"
#include "framework/ops/head_parts/head_parts.h"
#include "framework/ops/reshape/reshape.h"

namespace sieve {
namespace {

Bias bias_of(const LatentAttentionConfig& config) {
    return config.bias ? Bias::yes : Bias::no;
}

}  // namespace

GroupedQueryProjections::GroupedQueryProjections(const ParameterInit& init, const std::string& full_name,
                                                 int64_t d_model, int64_t heads, int64_t kv_heads,
                                                 const RopeAngles& rope)
    : AttentionProjections(d_model,
                           1.0 / std::sqrt(static_cast<double>(d_model) / static_cast<double>(heads))),
      heads_(heads),
      kv_heads_(kv_heads),
      rope_{.layout = RopeLayout::interleaved, .rotary_dims = d_model / heads, .angles = rope},
      qkv_(init, full_name + ".qkv", d_model, (heads + 2 * kv_heads) * (d_model / heads)) {
    add_child("qkv", qkv_);
}

AttentionHeads GroupedQueryProjections::heads(const Tensor& x, const Positions& positions) const {
    const QkvHeads split = split_qkv_rope(qkv_(x), heads_, kv_heads_, rope_.at(positions));
    return {split.q, split.k, split.v, {}};
}

LatentProjections::LatentProjections(const ParameterInit& init, const std::string& full_name, int64_t d_model,
                                     int64_t heads, const LatentAttentionConfig& config,
                                     const RopeAngles& rope)
    : AttentionProjections(heads * config.value_dim,
                           1.0 / std::sqrt(static_cast<double>(config.nope_dim + config.rope_dim))),
      heads_(heads),
      config_(config),
      rope_{.layout = RopeLayout::interleaved, .rotary_dims = config.rope_dim, .angles = rope},
      q_proj_(init, full_name + (config.q_rank ? ".q_b_proj" : ".q_proj"),
              config.q_rank ? config.q_rank : d_model, heads * (config.nope_dim + config.rope_dim)),
      kv_a_proj_(init, full_name + ".kv_a_proj_with_mqa", d_model, config.kv_rank + config.rope_dim,
                 bias_of(config)),
      kv_a_layernorm_(init, config.kv_rank, config.norm_eps),
      kv_b_proj_(init, full_name + ".kv_b_proj", config.kv_rank,
                 heads * (config.nope_dim + config.value_dim)) {
    if (config.q_rank) {
        q_a_proj_ =
            std::make_unique<Linear>(init, full_name + ".q_a_proj", d_model, config.q_rank, bias_of(config));
        q_a_layernorm_ = std::make_unique<RMSNorm>(init, config.q_rank, config.norm_eps);
        add_child("q_a_proj", *q_a_proj_);
        add_child("q_a_layernorm", *q_a_layernorm_);
    }
    add_child(config.q_rank ? "q_b_proj" : "q_proj", q_proj_);
    add_child("kv_a_proj_with_mqa", kv_a_proj_);
    add_child("kv_a_layernorm", kv_a_layernorm_);
    add_child("kv_b_proj", kv_b_proj_);
}

AttentionHeads LatentProjections::heads(const Tensor& x, const Positions& positions) const {
    const int64_t B = x.dim(0), T = x.dim(1), C = config_.kv_rank, N = config_.nope_dim, R = config_.rope_dim;
    const RopeConfig rotation = rope_.at(positions);
    const Tensor q_latent = q_a_proj_ ? (*q_a_layernorm_)((*q_a_proj_)(x)) : Tensor();
    const Tensor queries = q_proj_(q_latent.defined() ? q_latent : x);
    const SplitRows q = split_last(reshape(queries, {B, T, heads_, N + R}), N);
    const Tensor absorbed = head_linear_transposed(q.first, kv_b_proj_.weight(), {0, N});

    const SplitRows kv = split_last(kv_a_proj_(x), C);
    const Tensor latent = reshape(kv_a_layernorm_(kv.first), {B, T, 1, C});
    const Tensor key_rope = reshape(kv.rest, {B, T, 1, R});
    return {.q = join_heads(absorbed, rope(q.rest, rotation)),  // [B,H,T,C+R]
            .k = join_heads(latent, rope(key_rope, rotation)),  // [B,1,T,C+R]
            .v = reshape(latent, {B, 1, T, C}),
            .q_latent = q_latent};
}

Tensor LatentProjections::values(const Tensor& attended) const {
    const int64_t B = attended.dim(0), T = attended.dim(1);
    const Tensor latents = reshape(attended, {B, T, heads_, config_.kv_rank});
    return reshape(head_linear(latents, kv_b_proj_.weight(), {config_.nope_dim, config_.value_dim}),
                   {B, T, out_width()});
}

}  // namespace sieve
