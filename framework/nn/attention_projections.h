// The projections around attention: from a block's normed input to the heads that attention reads, and from
// what attention returns to what w_o reads. One class per attention_type; all attend by the same ops.
#pragma once

#include <memory>
#include <string>

#include "framework/nn/layers.h"
#include "framework/ops/rope/rope.h"

namespace sieve {

// H query heads over G key and value heads.
struct AttentionHeads {
    Tensor q;         // [B,H,T,dh], after RoPE
    Tensor k;         // [B,G,T,dh], after RoPE
    Tensor v;         // [B,G,T,dv]
    Tensor q_latent;  // [B,T,q_rank]: what the queries were made from; latent attention with q_rank > 0 only
};

class AttentionProjections : public Module {
  public:
    // x [B,T,d], whose tokens stand at `positions`.
    virtual AttentionHeads heads(const Tensor& x, const Positions& positions) const = 0;
    // attended [B,T,H*dv] -> [B,T,out_width]
    virtual Tensor values(const Tensor& attended) const = 0;
    int64_t out_width() const { return out_width_; }
    double scale() const { return scale_; }  // of the scores: q . k times this

  protected:
    AttentionProjections(int64_t out_width, double scale) : out_width_(out_width), scale_(scale) {}

  private:
    int64_t out_width_;
    double scale_;
};

// Multi-head attention (kv_heads = heads) and grouped-query attention (Ainslie et al., "GQA", 2023): one
// matrix qkv [(H + 2G) dh, d] whose rows are the query heads, then the key heads, then the value heads; dh =
// d / H.
class GroupedQueryProjections : public AttentionProjections {
  public:
    GroupedQueryProjections(const ParameterInit& init, const std::string& full_name, int64_t d_model,
                            int64_t heads, int64_t kv_heads, const RopeAngles& rope);
    AttentionHeads heads(const Tensor& x, const Positions& positions) const override;
    Tensor values(const Tensor& attended) const override { return attended; }

  private:
    int64_t heads_, kv_heads_;
    RopeConfig rope_;
    Linear qkv_;
};

struct LatentAttentionConfig {
    int64_t q_rank;                         // 0: queries come straight from x
    int64_t kv_rank;                        // C, width of the latent
    int64_t nope_dim, rope_dim, value_dim;  // N, R and V of a head
    double norm_eps;
    bool bias = false;  // of q_a_proj, kv_a_proj_with_mqa and w_o
};

// Multi-head latent attention with decoupled RoPE (DeepSeek-V2, 2024, section 2.1; parameter names as in
// Hugging Face's DeepSeek-V3):
//
//   q[h]       = [q_nope | rope(q_rope)]      N + R dims of q_proj x, or q_b_proj(rms_norm(q_a_proj x))
//   l | k_rope = kv_a_proj_with_mqa x         C + R dims: one latent and one rotated key for all heads
//   k[h]       = [W_uk[h] c | rope(k_rope)]   c = rms_norm(l)
//   v[h]       = W_uv[h] c                    W_uk[h] [N,C], W_uv[h] [V,C]: head h's rows of kv_b_proj
//
// It attends in the multi-query form, classic and sparse alike (DeepSeek-V3.2-Exp, section 2.1): because
// q_nope . (W_uk c) = (q_nope W_uk) . c, all heads read one key [c | rope(k_rope)] and one value c. So
// G = 1, dh = C + R and dv = C, and values() applies W_uv[h] to each head's latent output. The scale is
// (N + R)^-0.5.
class LatentProjections : public AttentionProjections {
  public:
    LatentProjections(const ParameterInit& init, const std::string& full_name, int64_t d_model, int64_t heads,
                      const LatentAttentionConfig& config, const RopeAngles& rope);
    AttentionHeads heads(const Tensor& x, const Positions& positions) const override;
    Tensor values(const Tensor& attended) const override;

  private:
    int64_t heads_;
    LatentAttentionConfig config_;
    RopeConfig rope_;
    std::unique_ptr<Linear> q_a_proj_;        // q_rank > 0 only
    std::unique_ptr<RMSNorm> q_a_layernorm_;  // q_rank > 0 only
    Linear q_proj_;                           // named q_b_proj with q_rank > 0
    Linear kv_a_proj_;
    RMSNorm kv_a_layernorm_;
    Linear kv_b_proj_;
};

}  // namespace sieve
