// What every variant of the model must do: gradients by finite differences, causality, state.
#include "tests/models/variants.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "framework/autograd/autograd.h"
#include "framework/core/error.h"
#include "framework/ops/add/add.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/program/config.h"
#include "models/transformer.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

// Buffers and biases start at zero: random ones, so that they matter.
std::unique_ptr<Transformer> random_model(const ModelConfig& config, DType dtype = DType::float32) {
    auto model = std::make_unique<Transformer>(config, ParameterInit{.std = config.init_std, .dtype = dtype});
    uint64_t seed = 50;
    NamedTensors zeros = model->buffers();
    for (const NamedTensor& p : model->parameters())
        if (p.name.ends_with(".bias")) zeros.push_back(p);
    for (const NamedTensor& z : zeros)
        z.tensor.copy_from(random_normal(z.tensor.shape(), ++seed, DType::float64, 0.1));
    return model;
}

// d loss / d parameter, for every element of every parameter, against central differences.
void check_all_gradients(const NamedTensors& parameters, const std::function<Tensor()>& loss) {
    for (const NamedTensor& p : parameters) p.tensor.set_grad({});
    backward(loss());
    const NoGrad guard;
    constexpr double step = 1e-5;
    for (const NamedTensor& p : parameters) {
        REQUIRE_MESSAGE(p.tensor.grad().defined(), p.name);
        double worst = 0, largest = 0;
        for (int64_t i = 0; i < p.tensor.numel(); ++i) {
            double& x = p.tensor.data<double>()[i];
            const double before = x;
            x = before + step;
            const double above = loss().item();
            x = before - step;
            const double below = loss().item();
            x = before;
            const double numeric = (above - below) / (2 * step);
            largest = std::max(largest, std::abs(numeric));
            worst = std::max(worst, std::abs(numeric - p.tensor.grad().data<double>()[i]));
        }
        CHECK_MESSAGE(worst <= 1e-6 * std::max(largest, 1e-2), p.name << " " << worst << " of " << largest);
    }
}

Tensor logits_of(const Transformer& model, const Tensor& tokens, AttentionStage stage) {
    const NoGrad guard;
    return model.forward(tokens, {.stage = stage}).logits;
}

// Every token after t replaced by another.
Tensor with_other_future(const Tensor& tokens, int64_t t, int64_t vocabulary) {
    const Tensor changed = tokens.clone();
    for (int64_t s = t + 1; s < tokens.dim(1); ++s) {
        int32_t& token = changed.data<int32_t>()[s];
        token = (token + 1 + static_cast<int32_t>(s % 5)) % static_cast<int32_t>(vocabulary);
    }
    return changed;
}

// FNV-1a over names and bytes.
uint64_t hash_of(const NamedTensors& parameters) {
    uint64_t hash = 0xcbf29ce484222325;
    const auto add_byte = [&](unsigned char byte) { hash = (hash ^ byte) * 0x100000001b3; };
    for (const NamedTensor& p : parameters) {
        for (const char c : p.name) add_byte(static_cast<unsigned char>(c));
        const auto* bytes = static_cast<const unsigned char*>(p.tensor.raw());
        for (int64_t i = 0; i < p.tensor.bytes(); ++i) add_byte(bytes[i]);
    }
    return hash;
}

}  // namespace

TEST_CASE("variants: every gradient of the whole model agrees with finite differences") {
    const Tensor tokens = random_tokens({1, 6}, 6, 13), targets = random_tokens({6}, 7, 13);
    for (const Variant& variant : model_variants())
        for (const char* attention : {"classic", "sparse"}) {
            INFO(variant.name << ", " << attention);
            const auto model = random_model(tiny_variant(variant, attention), DType::float64);
            check_all_gradients(model->main_parameters(), [&] {
                const ModelOutput out = model->forward(tokens, {});
                return add(cross_entropy(out.logits, targets), out.load_balancing);
            });
        }
}

TEST_CASE("variants: every gradient of the indexers agrees with finite differences") {
    const Tensor tokens = random_tokens({1, 6}, 6, 13);
    for (const Variant& variant : model_variants())
        for (const AttentionStage stage : {AttentionStage::dense, AttentionStage::sparse}) {
            INFO(variant.name << ", " << (stage == AttentionStage::dense ? "dense" : "sparse") << " stage");
            const auto model = random_model(tiny_variant(variant, "sparse"), DType::float64);
            check_all_gradients(model->indexer_parameters(), [&] {
                return model->forward(tokens, {.stage = stage, .indexer_loss = true, .logits = false})
                    .indexer_loss;
            });
        }
}

TEST_CASE("variants: no logit sees a later token") {
    for (const Variant& variant : model_variants())
        for (const char* attention : {"classic", "sparse"}) {
            const auto model = random_model(tiny_variant(variant, attention));
            for (const int64_t T : {2, 3, 5, 31, 33, 67}) {
                const Tensor tokens = random_tokens({1, T}, static_cast<uint64_t>(T), 13);
                const Tensor logits = logits_of(*model, tokens, AttentionStage::sparse);
                for (const int64_t t : {int64_t{0}, (T - 1) / 2, T - 2}) {
                    const Tensor other =
                        logits_of(*model, with_other_future(tokens, t, 13), AttentionStage::sparse);
                    CHECK_MESSAGE(bit_identical(logits.rows(0, t + 1), other.rows(0, t + 1)),
                                  variant.name << ", " << attention << ", T " << T << " t " << t);
                    CHECK(!bit_identical(logits.rows(t + 1, T), other.rows(t + 1, T)));
                }
            }
        }
}

TEST_CASE("variants: a sparse model that may select every key equals its dense stage") {
    for (const Variant& variant : model_variants()) {
        ModelConfig config = tiny_variant(variant, "sparse");
        config.sparse_top_k = config.sparse_top_k.values().size() == 1 ? PerLayer(40) : PerLayer({40, 50});
        const auto model = random_model(config);
        const Tensor tokens = random_tokens({2, 37}, 3, 13);
        CHECK_MESSAGE(relative_difference(logits_of(*model, tokens, AttentionStage::sparse),
                                          logits_of(*model, tokens, AttentionStage::dense)) <= 1e-6,
                      variant.name);
    }
}

namespace {

ModelConfig leaking(const Variant& variant, int64_t k) {
    ModelConfig config = tiny_variant(variant, "sparse");
    config.sparse_top_k = k;
    config.leaks = true;
    return config;
}

}  // namespace

// The first k - 1 queries see the first k tokens, whatever the indexer chooses; nobody else sees a later one.
TEST_CASE("the original's leak: who sees a later token, and only with i_know_this_leaks") {
    constexpr int64_t T = 11;
    const Tensor tokens = random_tokens({1, T}, 8, 13);
    for (const Variant& variant : model_variants())
        for (const int64_t k : {1, 2, 5, 11, 20})
            for (const bool leaks : {true, false}) {
                INFO(variant.name << ", k " << k << ", leaks " << leaks);
                ModelConfig config = leaking(variant, k);
                config.leaks = leaks;
                const auto model = random_model(config);
                const Tensor logits = logits_of(*model, tokens, AttentionStage::sparse);
                const int64_t reach = leaks ? std::min(k, T) : 1;  // the first query reads the keys before it
                for (int64_t changed = 1; changed < T; ++changed) {
                    const Tensor other = tokens.clone();
                    int32_t& token = other.data<int32_t>()[changed];
                    token = (token + 1) % 13;
                    const Tensor seen = logits_of(*model, other, AttentionStage::sparse);
                    CHECK(bit_identical(logits.rows(0, 1), seen.rows(0, 1)) == (changed >= reach));
                    const int64_t unaware = changed < reach ? 0 : changed;  // rows that must not see it
                    CHECK(bit_identical(logits.rows(0, unaware), seen.rows(0, unaware)));
                    CHECK(!bit_identical(logits.rows(changed, changed + 1), seen.rows(changed, changed + 1)));
                }
                CHECK(bit_identical(logits_of(*model, tokens, AttentionStage::dense),
                                    logits_of(*random_model([&] {
                                        ModelConfig honest = config;
                                        honest.leaks = false;
                                        return honest;
                                    }()),
                                              tokens, AttentionStage::dense)));
            }
}

TEST_CASE("the original's leak: every gradient agrees with finite differences") {
    const Tensor tokens = random_tokens({1, 6}, 6, 13), targets = random_tokens({6}, 7, 13);
    for (const Variant& variant : model_variants()) {
        INFO(variant.name);
        const auto model = random_model(leaking(variant, 4), DType::float64);
        check_all_gradients(model->main_parameters(), [&] {
            const ModelOutput out = model->forward(tokens, {});
            return add(cross_entropy(out.logits, targets), out.load_balancing);
        });
        check_all_gradients(model->indexer_parameters(), [&] {
            return model->forward(tokens, {.indexer_loss = true, .logits = false}).indexer_loss;
        });
    }
}

TEST_CASE("the original's leak: a text cannot be written with it") {
    const auto model = random_model(leaking(model_variants().front(), 4));
    std::vector<AttentionCache> cache(2);
    check_error(
        "forward: this model leaks: by i_know_this_leaks its first k - 1 queries (sparse_top_k 4) read later "
        "tokens, their own targets among them, so that its losses and accuracies are no measure of a model; "
        "a "
        "text that is being written has no later tokens",
        [&] {
            model->forward(random_tokens({1, 3}, 1, 13), {.cache = &cache});
        });
}

TEST_CASE("variants: the losses reach disjoint parameters") {
    const Tensor tokens = random_tokens({2, 7}, 4, 13), targets = random_tokens({14}, 5, 13);
    for (const Variant& variant : model_variants()) {
        INFO(variant.name);
        const auto model = random_model(tiny_variant(variant, "sparse"));
        backward(cross_entropy(model->forward(tokens, {}).logits, targets));
        for (const NamedTensor& p : model->indexer_parameters())
            CHECK_MESSAGE(!p.tensor.grad().defined(), p.name);
        for (const NamedTensor& p : model->main_parameters()) p.tensor.set_grad({});
        backward(model->forward(tokens, {.indexer_loss = true}).indexer_loss);
        for (const NamedTensor& p : model->main_parameters())
            CHECK_MESSAGE(!p.tensor.grad().defined(), p.name);
    }
}

TEST_CASE("variants: names of the state, each once, and a state loads into another model of its kind alone") {
    const auto names_of = [](const char* name) {
        for (const Variant& variant : model_variants())
            if (variant.name == name) {
                std::set<std::string> names;
                for (const NamedTensor& p : random_model(tiny_variant(variant, "sparse"))->state())
                    CHECK_MESSAGE(names.insert(p.name).second, p.name);
                return names;
            }
        FAIL("no variant " << name);
        return std::set<std::string>{};
    };
    CHECK(names_of("swiglu").count("blocks.1.feed_forward.experts.2.linear3.weight"));
    CHECK(names_of("2 shared experts").count("blocks.1.feed_forward.shared_experts.linear2.weight"));
    CHECK(!names_of("2 shared experts").count("blocks.1.feed_forward.shared_experts.linear3.weight"));
    CHECK(names_of("sigmoid_bias").count("blocks.1.feed_forward.router.gate.e_score_correction_bias"));
    CHECK(names_of("gqa, 2 key heads").count("blocks.0.attention.qkv.weight"));
    CHECK(names_of("own head").count("lm_head.weight"));
    CHECK(names_of("mla, biases").count("blocks.1.attention.kv_a_proj_with_mqa.bias"));
    CHECK(names_of("mla, biases").count("blocks.1.attention.w_o.bias"));
    CHECK(!names_of("mla, biases").count("blocks.1.attention.kv_b_proj.bias"));
    const std::set<std::string> glm = names_of("GLM with everything");
    CHECK(glm.count("blocks.0.attention.q_a_proj.bias"));
    CHECK(glm.count("blocks.0.feed_forward.linear3.weight"));
    CHECK(glm.count("blocks.0.attention.indexer.k_norm.bias"));
    CHECK(glm.count("blocks.2.attention.indexer.q_proj.weight"));
    for (const std::string& name : glm) {
        CHECK_MESSAGE(name.find("blocks.1.attention.indexer.") == std::string::npos, name);
        CHECK_MESSAGE(name.find("blocks.0.feed_forward.router") == std::string::npos, name);
        CHECK_MESSAGE(name.find("blocks.0.feed_forward.experts") == std::string::npos, name);
    }

    const Tensor tokens = random_tokens({1, 7}, 9, 13);
    for (const Variant& variant : model_variants()) {
        const ModelConfig config = tiny_variant(variant, "sparse");
        const auto model = random_model(config);
        const NamedTensors state = model->state();
        const Transformer other(config, ParameterInit{.seed = 5});
        other.load_state(state, "w.pt");
        CHECK(bit_identical(logits_of(other, tokens, AttentionStage::sparse),
                            logits_of(*model, tokens, AttentionStage::sparse)));
        const bool same_tensors = variant.name == "mha" || variant.name == "top k per layer" ||
                                  variant.name == "yarn" || config.router_weights != RouterWeights::selected;
        if (same_tensors) continue;
        const Transformer plain(tiny_variant(model_variants()[0], "sparse"), ParameterInit{});
        CHECK_THROWS_AS(plain.load_state(state, "w.pt"), Error);
    }
}

TEST_CASE("variants: shapes of the attention's parameters") {
    const auto shape_of = [](const std::string& variant_name, const std::string& name) {
        for (const Variant& variant : model_variants())
            if (variant.name == variant_name)
                for (const NamedTensor& p : random_model(tiny_variant(variant, "sparse"))->state())
                    if (p.name == "blocks.1.attention." + name) return p.tensor.shape();
        FAIL(variant_name << " has no " << name);
        return Shape{};
    };
    CHECK(shape_of("gqa, 2 key heads", "qkv.weight") == Shape{16, 8});
    CHECK(shape_of("mla", "q_proj.weight") == Shape{15, 8});
    CHECK(shape_of("mla", "kv_a_proj_with_mqa.weight") == Shape{7, 8});
    CHECK(shape_of("mla", "kv_a_layernorm.weight") == Shape{5});
    CHECK(shape_of("mla", "kv_b_proj.weight") == Shape{21, 5});
    CHECK(shape_of("mla", "w_o.weight") == Shape{8, 12});
    CHECK(shape_of("mla, query latent", "q_a_proj.weight") == Shape{6, 8});
    CHECK(shape_of("mla, query latent", "q_a_layernorm.weight") == Shape{6});
    CHECK(shape_of("mla, query latent", "q_b_proj.weight") == Shape{15, 6});
    CHECK(shape_of("mla, query latent", "indexer.q_proj.weight") == Shape{8, 8});
    CHECK(shape_of("mla, query latent, deepseek", "indexer.q_proj.weight") == Shape{8, 6});
    CHECK(shape_of("mla, query latent, deepseek", "indexer.k_proj.weight") == Shape{4, 8});
}

TEST_CASE("variants: the scale of attention is 1 / sqrt(what a query and a key are compared in)") {
    for (const Variant& variant : model_variants()) {
        INFO(variant.name);
        const ModelConfig config = tiny_variant(variant, "classic");
        const bool latent = config.attention_type == AttentionType::mla;
        const int64_t width =
            latent ? config.qk_nope_head_dim + config.qk_rope_head_dim : config.d_model / config.n_heads;
        int64_t layers = 0;
        ForwardOptions options;
        options.observe = [&](int64_t, const AttentionTrace& trace) {
            const double magnitude = 1 + 0.1 * config.rope_mscale_all_dim * std::log(config.rope_factor);
            CHECK(trace.scale ==
                  doctest::Approx(magnitude * magnitude / std::sqrt(static_cast<double>(width))));
            ++layers;
        };
        const NoGrad guard;
        random_model(config)->forward(random_tokens({1, 6}, 3, static_cast<int32_t>(config.vocab_size)),
                                      options);
        CHECK(layers == config.n_layers);
    }
}

TEST_CASE("variants: every layer selects its own number of keys") {
    ModelConfig config = tiny_variant(model_variants()[0], "sparse");
    config.sparse_top_k = PerLayer({2, 4});
    const Transformer model(config, ParameterInit{});
    std::vector<int64_t> slots, last_counts;
    ForwardOptions options;
    options.observe = [&](int64_t, const AttentionTrace& t) {
        slots.push_back(t.selection.indices.dim(2));
        last_counts.push_back(t.selection.counts.data<int32_t>()[7]);
    };
    model.forward(random_tokens({1, 8}, 3, 13), options);
    CHECK(slots == std::vector<int64_t>{2, 4});
    CHECK(last_counts == std::vector<int64_t>{2, 4});
}

// Numbers of the model before it had variants: whatever is added must leave the presets alone.
TEST_CASE("the small preset's weights and outputs are what they always were") {
    struct Pinned {
        AttentionKind attention;
        IndexerKind indexer;
        uint64_t weights;
        double first, squares, balancing, alignment;
    };
    for (const Pinned& want : {Pinned{AttentionKind::classic, IndexerKind::plain, 0x972a66ab4d7e30fd,
                                      -1.16042924, 50122.9539, 4.04266167, 0},
                               Pinned{AttentionKind::sparse, IndexerKind::plain, 0xafe07fe7343d796d,
                                      -1.16042924, 50167.4092, 4.043365, 5.93000221},
                               Pinned{AttentionKind::sparse, IndexerKind::deepseek, 0xcc8ac9e0295c411d,
                                      -1.16042924, 50273.5098, 4.03884792, 0.341737717}}) {
        INFO(name_of(want.attention) << ", " << name_of(want.indexer));
        ExperimentConfig c;
        apply_preset(c, "small");
        c.model.vocab_size = 300, c.model.attention = want.attention, c.model.indexer = want.indexer;
        const Transformer model(c.model, ParameterInit{.std = 0.1});
        CHECK(hash_of(model.state()) == want.weights);
        const NoGrad guard;
        const ModelOutput out =
            model.forward(random_tokens({2, 64}, 1, 300), {.indexer_loss = c.model.is_sparse()});
        double squares = 0;
        for (const float l : out.logits.to_vector<float>()) squares += static_cast<double>(l) * l;
        // Other machines round differently, and a router or a selection may then choose otherwise somewhere.
        CHECK(out.logits.data<float>()[0] == doctest::Approx(want.first).epsilon(1e-5));
        CHECK(squares == doctest::Approx(want.squares).epsilon(1e-4));
        CHECK(out.load_balancing.item() == doctest::Approx(want.balancing).epsilon(1e-4));
        if (out.indexer_loss.defined())
            CHECK(out.indexer_loss.item() == doctest::Approx(want.alignment).epsilon(1e-4));
    }
}

namespace {

// As a DispatchPlan has them: where each expert begins, and the end.
Tensor offsets(const std::vector<int64_t>& counts) {
    std::vector<int64_t> sums{0};
    for (const int64_t count : counts) sums.push_back(sums.back() + count);
    return Tensor::from(sums, {static_cast<int64_t>(sums.size())});
}

}  // namespace

TEST_CASE("sigmoid_bias: the bias falls where the load is above the mean and rises where it is below") {
    ModelConfig config = tiny_variant(model_variants()[0], "classic");
    config.router = RouterKind::sigmoid_bias;
    const Transformer model(config, ParameterInit{});
    model.balance_routers({offsets({5, 3, 1}), offsets({3, 3, 3})}, 0.25);
    CHECK(model.buffers()[0].tensor.to_vector<float>() == std::vector<float>{-0.25f, 0, 0.25f});
    CHECK(model.buffers()[1].tensor.to_vector<float>() == std::vector<float>{0, 0, 0});
    model.balance_routers({offsets({0, 2, 1}), offsets({0, 0, 9})}, 0.25);
    CHECK(model.buffers()[0].tensor.to_vector<float>() == std::vector<float>{0, -0.25f, 0.25f});
    CHECK(model.buffers()[1].tensor.to_vector<float>() == std::vector<float>{0.25f, 0.25f, -0.25f});
}

TEST_CASE("sigmoid_bias: updates even out a skewed load, without a gradient") {
    ModelConfig config = tiny_variant(model_variants()[0], "classic");
    config.router = RouterKind::sigmoid_bias;
    config.n_layers = 1;
    const Transformer model(config, ParameterInit{.std = 0.4});
    const Tensor tokens = random_tokens({8, 64}, 21, 13);
    const auto imbalance = [&](const Tensor& assignments) {
        const std::vector<int64_t> ends = assignments.to_vector<int64_t>();
        std::vector<int64_t> counts;
        for (size_t e = 0; e + 1 < ends.size(); ++e) counts.push_back(ends[e + 1] - ends[e]);
        const auto [low, high] = std::minmax_element(counts.begin(), counts.end());
        return static_cast<double>(*high) / static_cast<double>(std::max<int64_t>(*low, 1));
    };
    const NoGrad guard;
    const double before = imbalance(model.forward(tokens, {}).assignments[0]);
    for (int step = 0; step < 200; ++step)
        model.balance_routers(model.forward(tokens, {}).assignments, 0.005);
    const double after = imbalance(model.forward(tokens, {}).assignments[0]);
    CHECK(before > 1.5);
    CHECK(after < 1.3);
}

TEST_CASE("dense layers: no balancing loss, no assignments, one feed-forward of dense_d_ff") {
    ModelConfig config = tiny_variant(model_variants()[0], "classic");
    config.ffn_layers = "MD";
    const Tensor tokens = random_tokens({1, 7}, 9, 13);
    const auto run = [&] { return random_model(config)->forward(tokens, {}); };
    const ModelOutput mixed = run();
    REQUIRE(mixed.assignments.size() == 2);
    CHECK(mixed.assignments[0].defined());
    CHECK(!mixed.assignments[1].defined());
    config.n_layers = 1, config.ffn_layers = "";  // the first layer's loss alone
    CHECK(bit_identical(mixed.load_balancing, run().load_balancing));
    config.n_layers = 2, config.ffn_layers = "DD";
    CHECK(run().load_balancing.item() == 0);
    config.dense_d_ff = 11;
    CHECK(random_model(config)->parameters()[5].name == "blocks.0.feed_forward.linear1.weight");
    CHECK(random_model(config)->parameters()[5].tensor.shape() == Shape{11, 8});
    random_model(config)->balance_routers(run().assignments, 0.25);  // there are none to move
}

TEST_CASE("latent_norm_eps: 0 is norm_eps, and it reaches the latents' norms alone") {
    ModelConfig config = tiny_variant(model_variants()[0], "classic");
    config.attention_type = AttentionType::mla;
    config.q_lora_rank = 6, config.kv_lora_rank = 5;
    config.qk_nope_head_dim = 3, config.qk_rope_head_dim = 2, config.v_head_dim = 4;
    config.norm_eps = 1e-3;
    const Tensor tokens = random_tokens({1, 7}, 9, 13);
    const auto logits = [&](double eps) {
        config.latent_norm_eps = eps;
        return logits_of(*random_model(config), tokens, AttentionStage::dense);
    };
    CHECK(bit_identical(logits(0), logits(1e-3)));
    CHECK(!bit_identical(logits(0), logits(1e-2)));
    // Latents that an endless epsilon flattens are 0: attention adds nothing.
    const Tensor flat = logits(1e30);
    const auto model = random_model(config);
    for (const NamedTensor& p : model->parameters())
        if (p.name.ends_with(".w_o.weight")) p.tensor.fill(0);
    CHECK(relative_difference(flat, logits_of(*model, tokens, AttentionStage::dense)) < 1e-6);
}

namespace {

// k [T,dI] of the first layer's indexer, from the parameters and the formula.
std::vector<double> indexer_keys_by_hand(const Transformer& model, const std::vector<int32_t>& tokens) {
    const ModelConfig& c = model.config();
    const auto values = [&](const std::string& name) {
        for (const NamedTensor& p : model.parameters())
            if (p.name == name) return p.tensor.to_vector<double>();
        FAIL("no " << name);
        return std::vector<double>{};
    };
    const std::vector<double> embed = values("embed.weight"),
                              k_proj = values("blocks.0.attention.indexer.k_proj.weight");
    const auto d = static_cast<size_t>(c.d_model), dims = static_cast<size_t>(c.indexer_dim);
    const auto R = static_cast<size_t>(c.indexer_rope_dim);
    const bool interleaved = c.indexer_rope_layout == RopeLayout::interleaved;
    std::vector<double> keys;
    for (size_t t = 0; t < tokens.size(); ++t) {
        const double* h = embed.data() + static_cast<size_t>(tokens[t]) * d;
        double squares = 0, mean = 0, variance = 0;
        for (size_t i = 0; i < d; ++i) squares += h[i] * h[i] / static_cast<double>(d);
        std::vector<double> k(dims, 0.0);
        for (size_t j = 0; j < dims; ++j)
            for (size_t i = 0; i < d; ++i) k[j] += k_proj[j * d + i] * h[i] / std::sqrt(squares + c.norm_eps);
        for (const double x : k) mean += x / static_cast<double>(dims);
        for (const double x : k) variance += (x - mean) * (x - mean) / static_cast<double>(dims);
        for (double& x : k) x = (x - mean) / std::sqrt(variance + 1e-6);
        for (size_t i = 0; i < R / 2; ++i) {
            const double angle = static_cast<double>(t) *
                                 std::pow(c.rope_base, -2 * static_cast<double>(i) / static_cast<double>(R));
            double &u = k[interleaved ? 2 * i : i], &v = k[interleaved ? 2 * i + 1 : i + R / 2];
            const double before = u;
            u = before * std::cos(angle) - v * std::sin(angle);
            v = before * std::sin(angle) + v * std::cos(angle);
        }
        keys.insert(keys.end(), k.begin(), k.end());
    }
    return keys;
}

}  // namespace

TEST_CASE("indexer_rope_dim and indexer_rope_layout: which dims turn, and in which pairs") {
    for (const RopeLayout layout : {RopeLayout::half_split, RopeLayout::interleaved})
        for (const int64_t dims : {2, 4, 10}) {
            INFO(name_of(layout) << " " << dims);
            ModelConfig config = tiny_variant(model_variants()[0], "sparse");
            config.indexer = IndexerKind::deepseek;
            config.indexer_dim = 10, config.indexer_rope_dim = dims, config.indexer_rope_layout = layout;
            config.n_layers = 1, config.rope_base = 50;
            const Transformer model(config, ParameterInit{.std = 0.4, .dtype = DType::float64});
            const Tensor tokens = random_tokens({1, 9}, 9, 13);
            const std::vector<double> want = indexer_keys_by_hand(model, tokens.to_vector<int32_t>());
            ForwardOptions options;
            options.observe = [&](int64_t, const AttentionTrace& trace) {
                const std::vector<double> got = trace.indexer_operands()->k.to_vector<double>();
                REQUIRE(got.size() == want.size());
                for (size_t i = 0; i < got.size(); ++i)
                    CHECK(got[i] == doctest::Approx(want[i]).epsilon(1e-9));
            };
            const NoGrad guard;
            model.forward(tokens, options);
        }
}
