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
    Tensor q;  // [B,H,T,dh], after RoPE
    Tensor k;  // [B,G,T,dh], after RoPE
    Tensor v;  // [B,G,T,dv]
};

class AttentionProjections : public Module {
  public:
    virtual AttentionHeads heads(const Tensor& x /* [B,T,d] */) const = 0;
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
                            int64_t heads, int64_t kv_heads, double rope_base);
    AttentionHeads heads(const Tensor& x) const override;
    Tensor values(const Tensor& attended) const override { return attended; }

  private:
    int64_t heads_, kv_heads_;
    RopeConfig rope_;
    Linear qkv_;
};

}  // namespace sieve
