#include "models/transformer.h"

#include <fmt/format.h>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/ops/add/add.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "tests/support/precision_scope.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

ModelConfig tiny(const std::string& attention, int64_t top_k = 4, const std::string& indexer = "plain") {
    ModelConfig c;
    c.attention = from_name<AttentionKind>("attention", attention);
    c.indexer = from_name<IndexerKind>("indexer", indexer);
    c.vocab_size = 37;
    c.d_model = 16, c.n_heads = 2, c.n_layers = 2, c.d_ff = 24;
    c.max_seq_len = 16;
    c.num_experts = 3, c.expert_top_k = 2;
    c.indexer_heads = 3, c.indexer_dim = 8, c.sparse_top_k = top_k;
    c.init_std = 0.2;
    return c;
}

Tensor logits_of(const Transformer& model, const Tensor& tokens,
                 AttentionStage stage = AttentionStage::sparse) {
    const NoGrad guard;
    return model.forward(tokens, {.stage = stage}).logits;
}

// Logits [0, t] of the model on `tokens` and on the same tokens with everything after t replaced.
bool blind_to_the_future(const Transformer& model, const Tensor& tokens, int64_t t) {
    const int64_t T = tokens.dim(1), vocab = model.config().vocab_size;
    const Tensor changed = tokens.clone();
    for (int64_t s = t + 1; s < T; ++s) {
        int32_t& token = changed.data<int32_t>()[s];
        token = (token + 1 + static_cast<int32_t>(s % 5)) % static_cast<int32_t>(vocab);
    }
    return bit_identical(logits_of(model, tokens).rows(0, t + 1), logits_of(model, changed).rows(0, t + 1));
}

}  // namespace

TEST_CASE("causality: no logit sees a later token, classic, any length") {
    const Transformer model(tiny("classic"), ParameterInit{.std = 0.2});
    for (int64_t T = 1; T <= 130; ++T) {
        const Tensor tokens = random_tokens({1, T}, static_cast<uint64_t>(T), 37);
        for (const int64_t t : {int64_t{0}, T / 2, T - 2})
            if (t >= 0) CHECK_MESSAGE(blind_to_the_future(model, tokens, t), "T " << T << " t " << t);
    }
}

TEST_CASE("causality: no logit sees a later token at bf16, both variants, T from 1 to 67") {
    const PrecisionScope bf16(Precision::bf16);
    for (const char* attention : {"classic", "sparse"}) {
        const Transformer model(tiny(attention), ParameterInit{.std = 0.2});
        for (int64_t T = 1; T <= 67; T += T < 20 ? 1 : 11) {
            const Tensor tokens = random_tokens({1, T}, static_cast<uint64_t>(T), 37);
            for (const int64_t t : {int64_t{0}, T / 2, T - 2})
                if (t >= 0) CHECK_MESSAGE(blind_to_the_future(model, tokens, t), "T " << T << " t " << t);
        }
    }
}

TEST_CASE("causality: no logit sees a later token, sparse, k from 1 to T + 3") {
    for (const char* indexer : {"plain", "deepseek"})
        for (int64_t T = 1; T <= 130; T += T < 20 ? 1 : 11)
            for (const int64_t k : {int64_t{1}, int64_t{2}, T / 2, T - 1, T, T + 3}) {
                if (k < 1) continue;
                const Transformer model(tiny("sparse", k, indexer), ParameterInit{.std = 0.2});
                const Tensor tokens = random_tokens({1, T}, static_cast<uint64_t>(T + k), 37);
                for (const int64_t t : {int64_t{0}, T / 2, T - 2})
                    if (t >= 0)
                        CHECK_MESSAGE(blind_to_the_future(model, tokens, t),
                                      indexer << " T " << T << " k " << k << " t " << t);
            }
}

TEST_CASE("causality: no logit sees a later token, whatever the indexer's precision, T from 1 to 67") {
    for (const char* precision : {"bf16", "fp8", "int8"}) {
        ModelConfig config = tiny("sparse", 5);
        config.indexer_precision = from_name<IndexerPrecision>("indexer_precision", precision);
        const Transformer model(config, ParameterInit{.std = 0.2});
        for (int64_t T = 1; T <= 67; ++T) {
            const Tensor tokens = random_tokens({1, T}, static_cast<uint64_t>(T), 37);
            for (const int64_t t : {int64_t{0}, T / 2, T - 2})
                if (t >= 0)
                    CHECK_MESSAGE(blind_to_the_future(model, tokens, t),
                                  precision << " T " << T << " t " << t);
        }
    }
}

TEST_CASE("the indexer's precision changes selections alone: with every key selected all bits stay") {
    const Tensor tokens = random_tokens({2, 20}, 9, 37);
    const auto run = [&](const char* precision, int64_t top_k) {
        ModelConfig config = tiny("sparse", top_k, "deepseek");
        config.indexer_precision = from_name<IndexerPrecision>("indexer_precision", precision);
        const Transformer model(config, ParameterInit{.std = 0.2});
        const ModelOutput out = model.forward(tokens, {.indexer_loss = true});
        backward(out.indexer_loss);
        std::vector<Tensor> results{out.logits, out.indexer_loss};
        for (const NamedTensor& p : model.indexer_parameters()) results.push_back(p.tensor.grad());
        return results;
    };
    const std::vector<Tensor> want = run("fp32", 20);
    for (const char* precision : {"bf16", "fp8", "int8"}) {
        const std::vector<Tensor> got = run(precision, 20);
        REQUIRE(got.size() == want.size());
        for (size_t i = 0; i < got.size(); ++i) CHECK(bit_identical(got[i], want[i]));
    }
    CHECK(!bit_identical(run("fp8", 4)[0], run("fp32", 4)[0]));
}

TEST_CASE("a sparse model that may select every key equals its dense stage") {
    for (const int64_t T : {1, 5, 33, 130}) {
        const Transformer model(tiny("sparse", T + 3), ParameterInit{.std = 0.2});
        const Tensor tokens = random_tokens({2, T}, 3, 37);
        CHECK(relative_difference(logits_of(model, tokens),
                                  logits_of(model, tokens, AttentionStage::dense)) <= 1e-6);
    }
}

TEST_CASE("classic and sparse models start from the same main weights") {
    const Transformer classic(tiny("classic"), ParameterInit{}), sparse(tiny("sparse"), ParameterInit{});
    const NamedTensors a = classic.main_parameters(), b = sparse.main_parameters();
    REQUIRE(a.size() == b.size());
    for (size_t i = 0; i < a.size(); ++i) {
        CHECK(a[i].name == b[i].name);
        CHECK(bit_identical(a[i].tensor, b[i].tensor));
    }
    const Transformer other(tiny("classic"), ParameterInit{.seed = 43});
    CHECK(!bit_identical(other.main_parameters()[0].tensor, a[0].tensor));
}

TEST_CASE("router noise has the size that router_noise says") {
    ModelConfig config = tiny("classic");
    const Tensor tokens = random_tokens({2, 16}, 31, 37);
    const auto noisy = [&](double size) {
        config.router_noise = size;
        const NoGrad guard;
        Generator rng(42, 0);
        return Transformer(config, ParameterInit{.std = 0.2}).forward(tokens, {.rng = &rng}).logits;
    };
    config.dropout = 0;
    const Tensor quiet = noisy(0);
    CHECK(relative_difference(noisy(1e-9), quiet) < 1e-5);
    CHECK(relative_difference(noisy(3), quiet) > 0.1);
}

TEST_CASE("parameter names are the original PyTorch model's") {
    const Transformer model(tiny("sparse"), ParameterInit{});
    std::vector<std::string> names;
    for (const NamedTensor& p : model.state()) names.push_back(p.name);
    for (const char* want :
         {"embed.weight", "norm.weight", "lm_head.weight", "blocks.1.norm1.weight", "blocks.1.norm2.weight",
          "blocks.1.attention.qkv.weight", "blocks.1.attention.w_o.weight",
          "blocks.0.attention.indexer.q_proj.weight", "blocks.0.attention.indexer.k_proj.weight",
          "blocks.0.attention.indexer.w_proj.weight", "blocks.1.feed_forward.router.gate.weight",
          "blocks.1.feed_forward.experts.2.linear1.weight", "blocks.1.feed_forward.experts.2.linear2.weight"})
        CHECK_MESSAGE(std::find(names.begin(), names.end(), want) != names.end(), want);
    CHECK(names.size() == 3 + 2 * (2 + 2 + 3 + 1 + 6));
}

TEST_CASE("the language model's loss sends nothing to the indexer, the alignment loss nothing to the model") {
    const Transformer model(tiny("sparse"), ParameterInit{.std = 0.2});
    const Tensor tokens = random_tokens({2, 9}, 4, 37), targets = random_tokens({18}, 5, 37);
    backward(cross_entropy(model.forward(tokens, {}).logits, targets));
    for (const NamedTensor& p : model.indexer_parameters()) CHECK_MESSAGE(!p.tensor.grad().defined(), p.name);
    for (const NamedTensor& p : model.main_parameters()) p.tensor.set_grad({});
    for (const AttentionStage stage : {AttentionStage::dense, AttentionStage::sparse}) {
        backward(model.forward(tokens, {.stage = stage, .indexer_loss = true}).indexer_loss);
        for (const NamedTensor& p : model.main_parameters())
            CHECK_MESSAGE(!p.tensor.grad().defined(), p.name);
        for (const NamedTensor& p : model.indexer_parameters()) {
            CHECK_MESSAGE(p.tensor.grad().defined(), p.name);
            p.tensor.set_grad({});
        }
    }
}

TEST_CASE("a float64 model's gradients agree with finite differences, end to end") {
    for (const char* attention : {"classic", "sparse"}) {
        ModelConfig config = tiny(attention, 3);
        const Transformer model(config, ParameterInit{.std = 0.3, .dtype = DType::float64});
        const Tensor tokens = random_tokens({2, 6}, 6, 37), targets = random_tokens({12}, 7, 37);
        const auto loss = [&] {
            const ModelOutput out = model.forward(tokens, {});
            return add(cross_entropy(out.logits, targets), out.load_balancing);
        };
        backward(loss());
        for (const NamedTensor& p : model.main_parameters()) {
            REQUIRE(p.tensor.grad().defined());
            const NoGrad guard;
            // A few elements of each parameter: the ops have their own complete checks.
            for (const int64_t at : {int64_t{0}, p.tensor.numel() / 2, p.tensor.numel() - 1}) {
                double* x = p.tensor.data<double>() + at;
                const double before = *x, step = 1e-6;
                *x = before + step;
                const double above = loss().item();
                *x = before - step;
                const double below = loss().item();
                *x = before;
                CHECK_MESSAGE(p.tensor.grad().data<double>()[at] ==
                                  doctest::Approx((above - below) / (2 * step)).epsilon(1e-5).scale(1e-3),
                              p.name << " element " << at);
            }
        }
    }
}

TEST_CASE("load_state: refuses what does not fit and leaves the model as it was") {
    const Transformer model(tiny("classic"), ParameterInit{}),
        other(tiny("classic"), ParameterInit{.seed = 1});
    const NamedTensors state = other.state();
    const Tensor before = model.state()[0].tensor.clone();

    auto missing = state;
    missing.erase(missing.begin() + 2);
    check_error("w.pt: has no tensor " + state[2].name + "; is it a checkpoint of another model?",
                [&] { model.load_state(missing, "w.pt"); });
    auto reshaped = state;
    reshaped[0].tensor = Tensor::zeros({3, 16});
    check_error("w.pt: embed.weight is [3,16], this model's is [37,16]; does the config belong to it?",
                [&] { model.load_state(reshaped, "w.pt"); });
    auto extra = state;
    extra.push_back({"blocks.0.attention.indexer.q_proj.weight", Tensor::zeros({2, 2})});
    check_error(
        "w.pt: holds blocks.0.attention.indexer.q_proj.weight, which this classic model does not have",
        [&] { model.load_state(extra, "w.pt"); });
    CHECK(bit_identical(model.state()[0].tensor, before));

    model.load_state(state, "w.pt");
    CHECK(bit_identical(model.state()[0].tensor, other.state()[0].tensor));
    const Transformer sparse(tiny("sparse"), ParameterInit{});
    sparse.load_state(state, "w.pt", true);
    CHECK(bit_identical(sparse.state()[0].tensor, other.state()[0].tensor));
}

TEST_CASE("load_state: two names of one tensor must have the same bits") {
    const Transformer model(tiny("classic"), ParameterInit{}),
        other(tiny("classic"), ParameterInit{.seed = 7});
    const Tensor before = model.state()[0].tensor.clone();
    NamedTensors state = other.state();
    REQUIRE(state.back().name == "lm_head.weight");
    state.back().tensor = state.back().tensor.clone();
    model.load_state(state, "w.pt");  // equal, but not one tensor in the file
    CHECK(bit_identical(model.state()[0].tensor, other.state()[0].tensor));
    model.state()[0].tensor.copy_from(before);

    // In either order, and however small the difference: the sign of a zero.
    state[0].tensor = state[0].tensor.clone();
    state[0].tensor.data<float>()[16 + 3] = 0.0f;
    state.back().tensor.data<float>()[16 + 3] = -0.0f;
    check_error(
        "w.pt: embed.weight and lm_head.weight are one tensor in this model (tied weights) but differ, first "
        "in "
        "embed.weight[1,3]: 0 and -0; leave out the one that is not meant, or set tie_embeddings to false",
        [&] { model.load_state(state, "w.pt"); });
    std::swap(state[0], state.back());
    check_error(
        "w.pt: lm_head.weight and embed.weight are one tensor in this model (tied weights) but differ, first "
        "in "
        "lm_head.weight[1,3]: -0 and 0; leave out the one that is not meant, or set tie_embeddings to false",
        [&] { model.load_state(state, "w.pt"); });
    CHECK(bit_identical(model.state()[0].tensor, before));
    state.erase(state.begin());
    model.load_state(state, "w.pt");
    CHECK(bit_identical(model.state()[0].tensor, state.back().tensor));
}

TEST_CASE("load_state: a head of its own, and files with and without one") {
    ModelConfig config = tiny("classic");
    const Transformer tied(config, ParameterInit{.seed = 7});
    config.tie_embeddings = false;
    const Transformer own(config, ParameterInit{});
    const NamedTensors state = own.state();
    CHECK(state.size() == tied.state().size());
    const Tensor embed = state[0].tensor, head = own.parameters().back().tensor;
    REQUIRE(own.parameters().back().name == "lm_head.weight");
    CHECK(!bit_identical(embed, head));

    // Nothing of the file of an own head fits a tied model, unless the two matrices agree.
    check_error(
        fmt::format("w.pt: embed.weight and lm_head.weight are one tensor in this model (tied weights) but "
                    "differ, first in embed.weight[0,0]: {} and {}; leave out the one that is not meant, or "
                    "set tie_embeddings to false",
                    embed.alias({37 * 16}).rows(0, 1).item(), head.alias({37 * 16}).rows(0, 1).item()),
        [&] { tied.load_state(state, "w.pt"); });
    NamedTensors equal = state;
    equal.back().tensor = embed;
    tied.load_state(equal, "w.pt");
    CHECK(bit_identical(tied.state()[0].tensor, embed));

    own.load_state(Transformer(tiny("classic"), ParameterInit{.seed = 3}).state(), "w.pt");
    CHECK(bit_identical(embed, head));
    CHECK(!embed.is_same(head));
    NamedTensors without = tied.state();
    without.pop_back();
    check_error(
        "w.pt: has no tensor lm_head.weight: its embeddings are tied, and this model's head has a matrix of "
        "its own (tie_embeddings false); want tie_embeddings true",
        [&] { own.load_state(without, "w.pt"); });
}

TEST_CASE("an own head is trained beside the embedding, which then has the gradient of its rows alone") {
    ModelConfig config = tiny("classic");
    config.tie_embeddings = false;
    const Transformer own(config, ParameterInit{.std = 0.2});
    const Tensor tokens = Tensor::from<int32_t>({3, 5, 3}, {1, 3}), targets = random_tokens({3}, 5, 37);
    backward(cross_entropy(own.forward(tokens, {}).logits, targets));
    const Tensor of_embed = own.parameters().front().tensor.grad(),
                 of_head = own.parameters().back().tensor.grad();
    const Tensor none = Tensor::zeros({1, 16});
    for (int64_t row = 0; row < 37; ++row) {
        CHECK(bit_identical(of_embed.rows(row, row + 1), none) == (row != 3 && row != 5));
        CHECK(!bit_identical(of_head.rows(row, row + 1), none));
    }
}

TEST_CASE("YaRN's magnitudes are those of DeepSeek's configurations") {
    ModelConfig c = tiny("classic");
    CHECK(attention_score_factor(c) == 1);
    CHECK(!rope_angles(c).yarn.has_value());
    c.rope_scaling = RopeScaling::yarn, c.rope_factor = 40, c.rope_original_max_seq_len = 4096;
    const double log_40 = 3.6888794541139363;
    CHECK(rope_angles(c).magnitude() == doctest::Approx(0.1 * log_40 + 1));
    CHECK(attention_score_factor(c) == 1);
    c.rope_mscale = 0.707;  // alone it says nothing
    CHECK(rope_angles(c).magnitude() == doctest::Approx(0.1 * log_40 + 1));
    CHECK(attention_score_factor(c) == 1);
    c.rope_mscale_all_dim = 1;
    CHECK(rope_angles(c).magnitude() == doctest::Approx((0.0707 * log_40 + 1) / (0.1 * log_40 + 1)));
    CHECK(attention_score_factor(c) == doctest::Approx((0.1 * log_40 + 1) * (0.1 * log_40 + 1)));
    c.rope_mscale = 1;
    CHECK(rope_angles(c).magnitude() == 1);
    c.rope_mscale = 0;
    CHECK(rope_angles(c).magnitude() == doctest::Approx(0.1 * log_40 + 1));
    c.rope_factor = 1;
    CHECK(rope_angles(c).magnitude() == 1);
    CHECK(attention_score_factor(c) == 1);
}

TEST_CASE("load_state: a weight that is not finite is refused by name, place and value") {
    const Transformer model(tiny("sparse"), ParameterInit{}), other(tiny("sparse"), ParameterInit{.seed = 7});
    const Tensor before = model.state()[0].tensor.clone();
    const auto refuse = [&](size_t tensor, int64_t element, double value, const std::string& message) {
        NamedTensors state = other.state();
        const Tensor changed = state[tensor].tensor.clone();
        changed.data<float>()[element] = static_cast<float>(value);
        for (NamedTensor& t : state)
            if (t.tensor.is_same(other.state()[tensor].tensor)) t.tensor = changed;
        INFO(state[tensor].name);
        check_error("w.pt: " + message + "; a model with such a weight cannot be used",
                    [&] { model.load_state(state, "w.pt"); });
        CHECK(bit_identical(model.state()[0].tensor, before));
    };
    refuse(0, 0, NAN, "embed.weight[0,0] is nan");
    refuse(0, 2 * 16 + 5, -INFINITY, "embed.weight[2,5] is -inf");
    refuse(1, 3, INFINITY, other.state()[1].name + "[3] is inf");
    // What is finite in the file and not in the model's dtype.
    NamedTensors wide = other.state();
    wide[1].tensor = wide[1].tensor.to(DType::float64);
    wide[1].tensor.data<double>()[2] = 1e300;
    check_error("w.pt: " + wide[1].name + "[2] is inf; a model with such a weight cannot be used",
                [&] { model.load_state(wide, "w.pt"); });
}

TEST_CASE("model config: impossible combinations are named") {
    const auto refuse = [](const std::string& message, auto change) {
        ModelConfig c = tiny("sparse");
        change(c);
        check_error(message, [&] { validate(c); });
    };
    refuse("d_model: 15 is not divisible by n_heads 2; choose d_model = 16 or another n_heads",
           [](ModelConfig& c) { c.d_model = 15; });
    refuse(
        "d_model / n_heads: 10 / 2 = 5 is odd; RoPE rotates pairs, so the head size must be even; choose "
        "d_model = 12 or another n_heads",
        [](ModelConfig& c) { c.d_model = 10; });
    refuse("expert_top_k: 4 is more than num_experts 3; lower it or add experts",
           [](ModelConfig& c) { c.expert_top_k = 4; });
    refuse("sparse_top_k: 0, want at least 1", [](ModelConfig& c) { c.sparse_top_k = 0; });
    refuse("sparse_top_k: 3 numbers (4,4,2) for n_layers 2; give one for all layers or one for each",
           [](ModelConfig& c) {
               c.sparse_top_k = PerLayer({4, 4, 2});
           });
    refuse("sparse_top_k: 0, want at least 1", [](ModelConfig& c) { c.sparse_top_k = PerLayer({4, 0}); });
    refuse("dropout: 1, want 0 <= dropout < 1", [](ModelConfig& c) { c.dropout = 1; });
    refuse("indexer_dim: 6, want a multiple of 4: the deepseek indexer rotates pairs in half of its dims",
           [](ModelConfig& c) {
               c.indexer = IndexerKind::deepseek;
               c.indexer_dim = 6;
           });
    refuse("n_kv_heads: 3 does not divide n_heads 4; choose 1, 2 or 4", [](ModelConfig& c) {
        c.attention_type = AttentionType::gqa;
        c.n_heads = 4, c.n_kv_heads = 3;
    });
    refuse("qk_rope_head_dim: 3, want an even number of at least 2; RoPE rotates pairs", [](ModelConfig& c) {
        c.attention_type = AttentionType::mla;
        c.qk_rope_head_dim = 3;
    });
    refuse("kv_lora_rank: 0, want at least 1", [](ModelConfig& c) {
        c.attention_type = AttentionType::mla;
        c.kv_lora_rank = 0;
    });
    refuse("q_lora_rank: -1, want at least 0 (no query latent)", [](ModelConfig& c) {
        c.attention_type = AttentionType::mla;
        c.q_lora_rank = -1;
    });
    refuse("shared_experts: -1, want at least 0 (none)", [](ModelConfig& c) { c.shared_experts = -1; });
    refuse("routed_scaling_factor: 0, want more than 0", [](ModelConfig& c) { c.routed_scaling_factor = 0; });
    refuse("n_heads: 0, want at least 1", [](ModelConfig& c) { c.n_heads = 0; });
    refuse("indexer_rope_dim: -2, want at least 0 (half of indexer_dim)",
           [](ModelConfig& c) { c.indexer_rope_dim = -2; });
    refuse("rope_original_max_seq_len: -1, want at least 0 (none)",
           [](ModelConfig& c) { c.rope_original_max_seq_len = -1; });
    refuse("dense_d_ff: -1, want at least 0 (d_ff)", [](ModelConfig& c) { c.dense_d_ff = -1; });
    refuse("latent_norm_eps: -1, want at least 0 (norm_eps)", [](ModelConfig& c) { c.latent_norm_eps = -1; });
    refuse(
        "attention_bias: true with attention_type mha, whose projections have no biases; want false, or "
        "attention_type mla",
        [](ModelConfig& c) { c.attention_bias = true; });
    for (const int64_t dims : {3, 10})
        refuse("indexer_rope_dim: " + std::to_string(dims) +
                   ", want an even number up to indexer_dim 8, or 0 (half of it); RoPE rotates pairs",
               [dims](ModelConfig& c) {
                   c.indexer = IndexerKind::deepseek;
                   c.indexer_dim = 8, c.indexer_rope_dim = dims;
               });
}

TEST_CASE("model config: expert groups and weights that cannot be are named") {
    const auto refuse = [](const std::string& message, auto change) {
        ModelConfig c = tiny("sparse");
        c.router = RouterKind::sigmoid_bias;
        c.num_experts = 8, c.expert_top_k = 3, c.n_group = 4, c.topk_group = 2;
        change(c);
        check_error(message, [&] { validate(c); });
    };
    refuse("n_group: 0, want at least 1", [](ModelConfig& c) { c.n_group = 0; });
    refuse("topk_group: 0, want at least 1", [](ModelConfig& c) { c.topk_group = 0; });
    refuse("topk_group: 5 is more than n_group 4; lower it or add groups",
           [](ModelConfig& c) { c.topk_group = 5; });
    refuse("n_group: 4 with router softmax, which has no groups; want 1, or router sigmoid_bias",
           [](ModelConfig& c) { c.router = RouterKind::softmax; });
    for (const int64_t groups : {3, 8})
        refuse("n_group: " + std::to_string(groups) +
                   " for num_experts 8, want groups of one size and at least 2 experts: a group's score is "
                   "the sum of its best two",
               [groups](ModelConfig& c) { c.n_group = groups; });
    refuse(
        "expert_top_k: 3 is more than the 2 experts of topk_group 1 (groups of 2); lower it or raise "
        "topk_group",
        [](ModelConfig& c) { c.topk_group = 1; });
    refuse(
        "norm_topk_prob: false with router softmax, whose weights router_weights says; want true, or router "
        "sigmoid_bias",
        [](ModelConfig& c) {
            c.router = RouterKind::softmax;
            c.n_group = c.topk_group = 1;
            c.norm_topk_prob = false;
        });
}

TEST_CASE("model config: impossible settings of YaRN are named, and without it play no part") {
    const auto refuse = [](const std::string& message, auto change) {
        ModelConfig c = tiny("classic");
        c.rope_scaling = RopeScaling::yarn;
        c.rope_factor = 4, c.rope_original_max_seq_len = 8;
        change(c);
        check_error(message, [&] { validate(c); });
        c.rope_scaling = RopeScaling::none;
        validate(c);
    };
    refuse(
        "rope_factor: 0.5, want at least 1 with rope_scaling yarn: how much longer than "
        "rope_original_max_seq_len texts are",
        [](ModelConfig& c) { c.rope_factor = 0.5; });
    refuse(
        "rope_original_max_seq_len: 0, want at least 1 with rope_scaling yarn: the length of the windows of "
        "the first training",
        [](ModelConfig& c) { c.rope_original_max_seq_len = 0; });
    refuse("rope_beta_slow: 0, want more than 0", [](ModelConfig& c) { c.rope_beta_slow = 0; });
    refuse("rope_beta_fast: 1, want at least rope_beta_slow 2",
           [](ModelConfig& c) { c.rope_beta_fast = 1, c.rope_beta_slow = 2; });
    refuse("rope_mscale: -1, want at least 0 (none)", [](ModelConfig& c) { c.rope_mscale = -1; });
    refuse("rope_mscale_all_dim: -1, want at least 0 (none)",
           [](ModelConfig& c) { c.rope_mscale_all_dim = -1; });
}

TEST_CASE(
    "transformer: a configuration that is not valid is refused before it takes memory, a large one names "
    "what it lacks memory for") {
    ModelConfig config = tiny("classic");
    config.vocab_size = 1 << 20;
    config.expert_top_k = config.num_experts + 1;
    release_cached_memory();
    set_memory_limit(memory_stats().reserved_bytes + (1 << 20));
    check_error("expert_top_k: " + std::to_string(config.expert_top_k) + " is more than num_experts " +
                    std::to_string(config.num_experts) + "; lower it or add experts",
                [&] { Transformer(config, ParameterInit{}); });
    config.expert_top_k = 1;
    try {
        const Transformer model(config, ParameterInit{});
        FAIL("nothing was thrown");
    } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::out_of_memory);
        CHECK(std::string(e.what()).find("cannot allocate 131072 KiB for parameters on cpu") !=
              std::string::npos);
    }
    set_memory_limit(0);
}
