#include "framework/nn/attention_projections.h"

#include <cmath>

namespace sieve {

GroupedQueryProjections::GroupedQueryProjections(const ParameterInit& init, const std::string& full_name,
                                                 int64_t d_model, int64_t heads, int64_t kv_heads,
                                                 double rope_base)
    : AttentionProjections(d_model, 1.0 / std::sqrt(static_cast<double>(d_model / heads))),
      heads_(heads),
      kv_heads_(kv_heads),
      rope_{.layout = RopeLayout::interleaved, .rotary_dims = d_model / heads, .base = rope_base},
      qkv_(init, full_name + ".qkv", d_model, (heads + 2 * kv_heads) * (d_model / heads)) {
    add_child("qkv", qkv_);
}

AttentionHeads GroupedQueryProjections::heads(const Tensor& x) const {
    const QkvHeads split = split_qkv_rope(qkv_(x), heads_, kv_heads_, rope_);
    return {split.q, split.k, split.v};
}

}  // namespace sieve
