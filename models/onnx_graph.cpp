#include "models/onnx_graph.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <set>

#include "framework/core/error.h"

namespace sieve {
namespace {

using Names = std::vector<std::string>;
using Ints = std::vector<int64_t>;

// Adds nodes and weights to a graph. Every function returns the name of the value that it makes.
class GraphBuilder {
  public:
    explicit GraphBuilder(const Transformer& model) {
        for (const NamedTensor& p : model.parameters()) tensors_.emplace(p.name, p.tensor);
        for (const NamedTensor& b : model.buffers()) tensors_.emplace(b.name, b.tensor);
        graph.name = name_of(model.config().attention);
    }

    // Values made from here on are named "scope/Op_3".
    void enter(const std::string& scope) { scope_ = scope; }

    Names nodes(const std::string& op, const Names& inputs, size_t outputs,
                const std::vector<OnnxAttribute>& attributes = {}) {
        OnnxNode node{op, inputs, {}, attributes};
        for (size_t i = 0; i < outputs; ++i)
            node.outputs.push_back(fmt::format("{}/{}_{}", scope_, op, ++values_));
        graph.nodes.push_back(node);
        return node.outputs;
    }
    std::string node(const std::string& op, const Names& inputs,
                     const std::vector<OnnxAttribute>& attributes = {}) {
        return nodes(op, inputs, 1, attributes).front();
    }

    // The model's tensor of this name, which must have this shape.
    std::string weight(const std::string& name, const Shape& shape) {
        const auto found = tensors_.find(name);
        if (found == tensors_.end()) fail(fmt::format("onnx_graph: the model has no {}", name));
        if (found->second.shape() != shape || found->second.dtype() != DType::float32)
            fail(fmt::format("onnx_graph: {} is {} {}, want float32 {}", name, name_of(found->second.dtype()),
                             to_string(found->second.shape()), to_string(shape)));
        if (placed_.insert(name).second) graph.weights.push_back({name, found->second});
        return name;
    }

    // A constant, kept once for each name.
    std::string constant(const std::string& name, const Tensor& value) {
        if (placed_.insert(name).second) graph.weights.push_back({name, value});
        return name;
    }
    std::string ints(const Ints& values) {
        std::string name = "ints";
        for (const int64_t value : values) name += " " + std::to_string(value);
        return constant(name, Tensor::from(values, {static_cast<int64_t>(values.size())}));
    }
    std::string number(double value) {
        return constant(fmt::format("float {}", value), Tensor::full({}, value));
    }
    std::string number(const std::string& name, double value, DType dtype) {
        return constant(name, Tensor::full({}, value, dtype));
    }

    // Throws unless everything that a checkpoint of the model holds found its place: a variant that this
    // graph does not know is refused, and not exported as something else.
    void check_complete() const {
        for (const auto& [name, tensor] : tensors_)
            if (!placed_.count(name))
                fail(
                    fmt::format("onnx_graph: cannot export this variant of the model yet: the graph has no "
                                "place for {}",
                                name));
    }

    std::string reshape(const std::string& x, const Ints& shape) { return node("Reshape", {x, ints(shape)}); }
    std::string transpose(const std::string& x, const Ints& order) {
        return node("Transpose", {x}, {{"perm", order}});
    }
    std::string unsqueeze(const std::string& x, const Ints& axes) {
        return node("Unsqueeze", {x, ints(axes)});
    }
    std::string concat(const Names& parts, int64_t axis) { return node("Concat", parts, {{"axis", axis}}); }
    Names split(const std::string& x, const Ints& sizes, int64_t axis) {
        return nodes("Split", {x, ints(sizes)}, sizes.size(), {{"axis", axis}});
    }
    // x [rows,in] W^T, the parameter W being [out,in].
    std::string linear(const std::string& x, const std::string& name, int64_t in, int64_t out) {
        return node("Gemm", {x, weight(name + ".weight", {out, in})}, {{"transB", int64_t{1}}});
    }

    OnnxModel graph;

  private:
    std::map<std::string, Tensor> tensors_;
    std::set<std::string> placed_;
    std::string scope_;
    int64_t values_ = 0;
};

// The model's forward pass (transformer.cpp, nn/) in ONNX operators. Between attention layers values are rows
// [N,d], N = B S.
class ModelGraph {
  public:
    explicit ModelGraph(const Transformer& model) : b_(model), c_(model.config()) {}

    OnnxModel build() {
        b_.graph.inputs = {{"tokens", DType::int64, {"batch", "sequence"}}};
        b_.graph.outputs = {{"logits", DType::float32, {"batch", "sequence", c_.vocab_size}}};
        describe_input();
        const std::string embed = b_.weight("embed.weight", {c_.vocab_size, c_.d_model});
        std::string h = b_.node("Gather", {embed, b_.reshape("tokens", {-1})});
        for (int64_t i = 0; i < c_.n_layers; ++i) {
            const std::string block = fmt::format("blocks.{}", i);
            b_.enter(block);
            h = b_.node("Add", {h, attention(rms_norm(h, block + ".norm1"), block + ".attention", i)});
            h = b_.node("Add", {h, feed_forward(rms_norm(h, block + ".norm2"), block + ".feed_forward", i)});
        }
        b_.enter("head");
        const std::string head =
            c_.tie_embeddings ? embed : b_.weight("lm_head.weight", {c_.vocab_size, c_.d_model});
        const std::string logits = b_.node("Gemm", {rms_norm(h, "norm"), head}, {{"transB", int64_t{1}}});
        b_.graph.nodes.push_back(
            {"Reshape", {logits, batch_shape({c_.vocab_size})}, {"logits"}, {{"allowzero", int64_t{1}}}});
        b_.check_complete();
        return std::move(b_.graph);
    }

  private:
    struct Rotation {
        std::string cosines, sines;  // [S, pairs]
    };

    // What all layers need of the input's shape: its dims, positions, the causal mask, tables of angles.
    void describe_input() {
        b_.enter("input");
        const std::string shape = b_.node("Shape", {"tokens"});
        batch_ = b_.node("Gather", {shape, b_.ints({0})});
        length_ = b_.node("Gather", {shape, b_.ints({1})});
        const std::string zero = b_.constant("zero", Tensor::zeros({}, DType::int64));
        const std::string one = b_.constant("one", Tensor::full({}, 1, DType::int64));
        const std::string scalar_length = b_.node("Squeeze", {length_});
        positions_ = b_.node("Range", {zero, scalar_length, one});
        causal_ = b_.node("GreaterOrEqual", {b_.unsqueeze(positions_, {1}), b_.unsqueeze(positions_, {0})});
        rotation_ = rotation(head_dim());
        if (deepseek()) indexer_rotation_ = rotation(c_.indexer_rotary_dims());
    }

    // Angles in float64, rounded once, as ops/rope does it.
    Rotation rotation(int64_t dims) {
        const RopeAngles of_model = rope_angles(c_);
        const Tensor frequencies = Tensor::from(of_model.frequencies(dims), {dims / 2});
        const std::string positions =
            b_.node("Cast", {b_.unsqueeze(positions_, {1})}, {{"to", onnx_type(DType::float64)}});
        const std::string angles = b_.node(
            "Mul", {positions, b_.constant(fmt::format("frequencies of {} dims", dims), frequencies)});
        const auto rounded = [&](const std::string& x) {
            const std::string scaled =
                of_model.magnitude() == 1
                    ? x
                    : b_.node("Mul", {x, b_.number("RoPE magnitude", of_model.magnitude(), DType::float64)});
            return b_.node("Cast", {scaled}, {{"to", onnx_type(DType::float32)}});
        };
        return {rounded(b_.node("Cos", {angles})), rounded(b_.node("Sin", {angles}))};
    }

    // [batch, sequence, rest...]. A batch or sequence of 0 is one, and not the place of a dim to copy
    // (allowzero).
    std::string batch_shape(const Ints& rest) { return b_.concat({batch_, length_, b_.ints(rest)}, 0); }
    std::string batch_reshape(const std::string& x, const Ints& rest) {
        return b_.node("Reshape", {x, batch_shape(rest)}, {{"allowzero", int64_t{1}}});
    }

    // Rows [N, heads * dim] -> [B, heads, S, dim]
    std::string split_heads(const std::string& rows, int64_t heads, int64_t dim) {
        return b_.transpose(batch_reshape(rows, {heads, dim}), {0, 2, 1, 3});
    }

    std::string rms_norm(const std::string& x, const std::string& name) {
        const std::string mean =
            b_.node("ReduceMean", {b_.node("Mul", {x, x})}, {{"axes", Ints{-1}}, {"keepdims", int64_t{1}}});
        const std::string root = b_.node("Sqrt", {b_.node("Add", {mean, b_.number(c_.norm_eps)})});
        return b_.node("Mul", {b_.node("Div", {x, root}), b_.weight(name + ".weight", {c_.d_model})});
    }

    // The pairs (u, v) turned by their angles.
    std::pair<std::string, std::string> turned(const std::string& u, const std::string& v,
                                               const std::string& cosines, const std::string& sines) {
        return {b_.node("Sub", {b_.node("Mul", {u, cosines}), b_.node("Mul", {v, sines})}),
                b_.node("Add", {b_.node("Mul", {u, sines}), b_.node("Mul", {v, cosines})})};
    }

    // x [B,heads,S,dims]: the pairs (x[2i], x[2i+1]).
    std::string rope_interleaved(const std::string& x, int64_t dims, const Rotation& r) {
        const Names pair = b_.split(b_.reshape(x, {0, 0, 0, dims / 2, 2}), {1, 1}, 4);
        const auto [u, v] =
            turned(pair[0], pair[1], b_.unsqueeze(r.cosines, {2}), b_.unsqueeze(r.sines, {2}));
        return b_.reshape(b_.concat({u, v}, 4), {0, 0, 0, dims});
    }

    // x [B,heads,S,dims]: the pairs (x[i], x[i + dims/2]).
    std::string rope_half_split(const std::string& x, int64_t dims, const Rotation& r) {
        const Names parts = b_.split(x, {dims / 2, dims / 2}, 3);
        const auto [u, v] = turned(parts[0], parts[1], r.cosines, r.sines);
        return b_.concat({u, v}, 3);
    }

    // x [B,heads,S,dI], of which the first dims are turned.
    std::string indexer_rope(const std::string& x) {
        const int64_t dims = c_.indexer_rotary_dims(), rest = c_.indexer_dim - dims;
        const Names parts = b_.split(x, rest > 0 ? Ints{dims, rest} : Ints{dims}, 3);
        const std::string turned_part = c_.indexer_rope_layout == RopeLayout::interleaved
                                            ? rope_interleaved(parts[0], dims, indexer_rotation_)
                                            : rope_half_split(parts[0], dims, indexer_rotation_);
        return rest > 0 ? b_.concat({turned_part, parts[1]}, 3) : turned_part;
    }

    std::string attention(const std::string& x, const std::string& name, int64_t layer) {
        const int64_t H = c_.n_heads, dh = head_dim();
        const std::string qkv =
            split_heads(b_.linear(x, name + ".qkv", c_.d_model, 3 * c_.d_model), 3 * H, dh);
        const Names heads = b_.split(qkv, {H, H, H}, 1);
        const std::string q =
            b_.node("Mul", {rope_interleaved(heads[0], dh, rotation_),
                            b_.number(attention_score_factor(c_) / std::sqrt(static_cast<double>(dh)))});
        const std::string k = rope_interleaved(heads[1], dh, rotation_);
        const std::string& v = heads[2];
        const std::string allowed = c_.is_sparse() ? selected(x, name + ".indexer", layer) : causal_;
        const std::string masked = b_.node(
            "Where", {allowed, b_.node("MatMul", {q, b_.transpose(k, {0, 1, 3, 2})}), minus_infinity()});
        const std::string weights = b_.node("Softmax", {masked}, {{"axis", int64_t{-1}}});
        const std::string out = b_.transpose(b_.node("MatMul", {weights, v}), {0, 2, 1, 3});
        return b_.linear(b_.reshape(out, {-1, H * dh}), name + ".w_o", H * dh, c_.d_model);
    }

    // I[b,t,s] = scale * sum_j w[t,j] ReLU(q[t,j] . k[s]), [B,S,S]
    std::string indexer_scores(const std::string& x, const std::string& name) {
        const int64_t HI = c_.indexer_heads, dI = c_.indexer_dim;
        std::string q = split_heads(b_.linear(x, name + ".q_proj", c_.d_model, HI * dI), HI, dI);
        std::string k = b_.linear(x, name + ".k_proj", c_.d_model, dI);
        if (deepseek())
            k = b_.node("LayerNormalization",
                        {k, b_.weight(name + ".k_norm.weight", {dI}), b_.weight(name + ".k_norm.bias", {dI})},
                        {{"axis", int64_t{-1}}, {"epsilon", 1e-6f}});
        k = split_heads(k, 1, dI);
        if (deepseek()) {
            q = indexer_rope(q);
            k = indexer_rope(k);
        }
        const std::string w =
            b_.node("Mul", {split_heads(b_.linear(x, name + ".w_proj", c_.d_model, HI), HI, 1),
                            b_.number(selector_config(c_, 0).indexer.scale)});
        const std::string products = b_.node("Relu", {b_.node("MatMul", {q, b_.transpose(k, {0, 1, 3, 2})})});
        return b_.node("ReduceSum", {b_.node("Mul", {products, w}), b_.ints({1})},
                       {{"keepdims", int64_t{0}}});
    }

    // Mask [B,1,S,S] of the min(k, t + 1) best keys of each token t. Where fewer than k keys exist TopK also
    // takes future ones, which the causal mask removes again.
    std::string selected(const std::string& x, const std::string& name, int64_t layer) {
        const std::string scores = b_.node("Where", {causal_, indexer_scores(x, name), minus_infinity()});
        const std::string k = b_.node("Min", {b_.ints({c_.sparse_top_k.of(layer)}), length_});
        const std::string best = b_.nodes("TopK", {scores, k}, 2, {{"axis", int64_t{-1}}})[1];
        const std::string mask =
            b_.node("ScatterElements", {filled(0, scores), best, filled(1, best)}, {{"axis", int64_t{-1}}});
        const std::string chosen = b_.node("Cast", {mask}, {{"to", onnx_bool}});
        return b_.unsqueeze(b_.node("And", {chosen, causal_}), {1});
    }

    // A uint8 of the shape of `like`, all `value`.
    std::string filled(double value, const std::string& like) {
        return b_.node("Expand", {b_.number(fmt::format("byte {}", value), value, DType::uint8),
                                  b_.node("Shape", {like})});
    }

    std::string feed_forward(const std::string& x, const std::string& name, int64_t layer) {
        return c_.is_dense_layer(layer) ? silu_layers(x, name, c_.dense_width()) : experts(x, name);
    }

    // linear2(silu(linear1(x))), x [rows,d]
    std::string silu_layers(const std::string& x, const std::string& name, int64_t width) {
        const std::string hidden = b_.linear(x, name + ".linear1", c_.d_model, width);
        const std::string silu = b_.node("Mul", {hidden, b_.node("Sigmoid", {hidden})});
        return b_.linear(silu, name + ".linear2", width, c_.d_model);
    }

    // y = sum over the selected experts e of weight_e * linear2_e(silu(linear1_e(x))), x [N,d].
    std::string experts(const std::string& x, const std::string& name) {
        const std::string logits = b_.linear(x, name + ".router.gate", c_.d_model, c_.num_experts);
        const Names best = b_.nodes("TopK", {logits, b_.ints({c_.expert_top_k})}, 2, {{"axis", int64_t{-1}}});
        const std::string weights = router_weights(logits, best);
        const std::string chosen = b_.node(
            "ScatterElements", {filled(0, logits), best[1], filled(1, best[1])}, {{"axis", int64_t{1}}});
        const std::string zeros = b_.node("Expand", {b_.number(0), b_.node("Shape", {logits})});
        const std::string shares =
            b_.node("ScatterElements", {zeros, best[1], weights}, {{"axis", int64_t{1}}});
        std::string y = b_.node("Expand", {b_.number(0), b_.node("Shape", {x})});
        for (int64_t e = 0; e < c_.num_experts; ++e)
            y = add_expert(y, x, fmt::format("{}.experts.{}", name, e), column(chosen, e), column(shares, e));
        return y;
    }

    // Of the best K logits [N,K], see RouterWeights.
    std::string router_weights(const std::string& logits, const Names& best) {
        const bool all = c_.router_weights == RouterWeights::all,
                   scaled = c_.router_weights == RouterWeights::scaled;
        if (!all && !scaled) return b_.node("Softmax", {best[0]}, {{"axis", int64_t{-1}}});
        const std::string probabilities = b_.node("Softmax", {logits}, {{"axis", int64_t{-1}}});
        const std::string chosen =
            b_.node("GatherElements", {probabilities, best[1]}, {{"axis", int64_t{-1}}});
        return all ? chosen : b_.node("Mul", {chosen, b_.number(static_cast<double>(c_.num_experts))});
    }

    // y with what one expert adds to the rows that chose it: `chosen` and `share` are [N].
    std::string add_expert(const std::string& y, const std::string& x, const std::string& name,
                           const std::string& chosen, const std::string& share) {
        const std::string rows = b_.reshape(b_.node("NonZero", {chosen}), {-1});
        const std::string out = silu_layers(b_.node("Gather", {x, rows}), name, c_.d_ff);
        const std::string shares = b_.unsqueeze(b_.node("Gather", {share, rows}), {1});
        return b_.node("ScatterND", {y, b_.unsqueeze(rows, {1}), b_.node("Mul", {out, shares})},
                       {{"reduction", std::string("add")}});
    }

    // x [N,E] -> [N]
    std::string column(const std::string& x, int64_t e) {
        return b_.node("Gather",
                       {x, b_.constant(fmt::format("index {}", e),
                                       Tensor::full({}, static_cast<double>(e), DType::int64))},
                       {{"axis", int64_t{1}}});
    }

    std::string minus_infinity() { return b_.number(-std::numeric_limits<double>::infinity()); }
    int64_t head_dim() const { return c_.d_model / c_.n_heads; }
    bool deepseek() const { return c_.is_sparse() && c_.indexer == IndexerKind::deepseek; }

    GraphBuilder b_;
    const ModelConfig& c_;
    std::string batch_, length_;  // [1] each
    std::string positions_;       // [S]
    std::string causal_;          // [S,S]: row t sees column s
    Rotation rotation_, indexer_rotation_;
};

}  // namespace

namespace {

void refuse_variants(const ModelConfig& c) {
    const auto refuse = [](const std::string& key, const std::string& value) {
        fail_usage(
            fmt::format("onnx: {} {} has no ONNX graph yet; export to .safetensors or .pt", key, value));
    };
    if (c.attention_type != AttentionType::mha) refuse("attention_type", name_of(c.attention_type));
    if (c.reads_future()) fail_usage("onnx: " + leak_text(c));
    if (c.is_sparse() && c.selector != "indexer") refuse("selector", c.selector);
    if (c.is_sparse() && !c.index_share.empty()) refuse("index_share", c.index_share);
    if (c.is_sparse() && c.indexer_pool > 1) refuse("indexer_pool", fmt::format("{}", c.indexer_pool));
    if (c.is_sparse() && c.indexer_weights == IndexerWeights::off) refuse("indexer_weights", "off");
    if (c.ffn != FeedForwardKind::silu) refuse("ffn", name_of(c.ffn));
    if (c.router != RouterKind::softmax) refuse("router", name_of(c.router));
    if (c.shared_experts) refuse("shared_experts", fmt::format("{}", c.shared_experts));
}

}  // namespace

OnnxModel onnx_graph(const Transformer& model) {
    refuse_variants(model.config());
    return ModelGraph(model).build();
}

}  // namespace sieve
