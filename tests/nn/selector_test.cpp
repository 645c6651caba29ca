#include "framework/nn/selector.h"

#include <numeric>

#include "framework/autograd/autograd.h"
#include "framework/core/error.h"
#include "framework/core/rng.h"
#include "framework/ops/indexer_kl/indexer_kl.h"
#include "framework/ops/indexer_quality/indexer_quality.h"
#include "models/decoder.h"
#include "tests/models/variants.h"
#include "tests/ops/indexer_oracle.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr int64_t length = 11, top_k = 3;

ModelConfig config_of(const SelectorKind& kind, int64_t k = top_k) {
    ModelConfig config = tiny_variant(model_variants()[0], "sparse");
    config.selector = kind.name;
    config.sparse_top_k = k;
    config.selector_block = 2, config.hisa_candidates = 2;
    return config;
}

// What the cases "selectors: ..." hold all to: every selector, and settings that make another one of it.
struct Case {
    std::string name;
    ModelConfig config;
};
std::vector<Case> every_case(int64_t k = top_k) {
    std::vector<Case> cases;
    for (const SelectorKind& kind : selector_kinds()) cases.push_back({kind.name, config_of(kind, k)});
    cases.push_back({"indexer, keys averaged over 2 tokens", config_of(selector_kind("indexer"), k)});
    cases.back().config.indexer_pool = 2;
    cases.push_back({"hisa, the heads without weights", config_of(selector_kind("hisa"), k)});
    cases.back().config.indexer_weights = IndexerWeights::off;
    for (const SelectorKind& kind : selector_kinds()) {
        cases.push_back({kind.name + std::string(", its keys shared"), config_of(kind, k)});
        cases.back().config.index_share = "FS";
    }
    return cases;
}

// [layer][row] of a forward over tokens [1,T].
using Rows = std::vector<std::vector<std::vector<int32_t>>>;
void note(const AttentionTrace& trace, std::vector<std::vector<int32_t>>& rows) {
    const Selection s{trace.selection.indices.to(Device{}), trace.selection.counts.to(Device{})};
    for (int64_t t = 0; t < s.counts.dim(1); ++t) {
        const int32_t* first = s.indices.data<int32_t>() + t * s.indices.dim(2);
        rows.emplace_back(first, first + s.counts.data<int32_t>()[t]);
    }
}

struct Pass {
    Rows selected;
    Tensor logits;
};
Pass pass(const Transformer& model, const Tensor& tokens) {
    const NoGrad guard;
    Pass result{.selected = Rows(static_cast<size_t>(model.config().n_layers)), .logits = {}};
    ForwardOptions options;
    options.observe = [&](int64_t layer, const AttentionTrace& trace) {
        note(trace, result.selected[static_cast<size_t>(layer)]);
    };
    result.logits = model.forward(tokens.to(model.device()), options).logits.to(Device{});
    return result;
}

}  // namespace

DEVICE_TEST_CASE("selectors: min(k, t + 1) keys of the past, ascending", device) {
    for (const int64_t k : {int64_t{1}, top_k, length, length + 5})
        for (const Case& each : every_case(k)) {
            INFO(each.name << " k " << k);
            const Transformer model(each.config, {.device = device});
            for (const auto& layer : pass(model, random_tokens({1, length}, 3, 13)).selected)
                for (int64_t t = 0; t < length; ++t) {
                    const std::vector<int32_t>& keys = layer[static_cast<size_t>(t)];
                    CHECK(static_cast<int64_t>(keys.size()) == std::min(k, t + 1));
                    CHECK(std::is_sorted(keys.begin(), keys.end(), std::less_equal<>()));
                    CHECK(keys.front() >= 0);
                    CHECK(keys.back() <= t);
                }
        }
}

DEVICE_TEST_CASE("selectors: later tokens change no bit of a row", device) {
    for (const Case& each : every_case()) {
        INFO(each.name);
        const Transformer model(each.config, {.device = device});
        const Tensor tokens = random_tokens({1, length}, 3, 13);
        const Pass want = pass(model, tokens);
        for (int64_t last = 0; last + 1 < length; ++last) {
            const Tensor other = tokens.clone();
            for (int64_t t = last + 1; t < length; ++t)
                other.data<int32_t>()[t] = (other.data<int32_t>()[t] + 5) % 13;
            const Pass got = pass(model, other);
            for (size_t layer = 0; layer < want.selected.size(); ++layer)
                for (int64_t t = 0; t <= last; ++t)
                    CHECK(got.selected[layer][static_cast<size_t>(t)] ==
                          want.selected[layer][static_cast<size_t>(t)]);
            CHECK(bit_identical(got.logits.rows(0, last + 1), want.logits.rows(0, last + 1)));
        }
    }
}

DEVICE_TEST_CASE("selectors: k of all keys is dense attention", device) {
    for (const Case& each : every_case(length)) {
        INFO(each.name);
        const Transformer model(each.config, {.device = device});
        const Tensor tokens = random_tokens({1, length}, 3, 13).to(device);
        const NoGrad guard;
        const Tensor sparse = model.forward(tokens, {}).logits,
                     dense = model.forward(tokens, {.stage = AttentionStage::dense}).logits;
        CHECK(bit_identical(sparse.to(Device{}), dense.to(Device{})));
    }
}

TEST_CASE("selectors: token by token through a cache they choose what the full pass chooses") {
    for (const Case& each : every_case())
        for (const int64_t prompt : {1, 4}) {
            INFO(each.name << " prompt " << prompt);
            const Transformer model(each.config, ParameterInit{});
            const Tensor tokens = random_tokens({1, length}, 3, 13);
            const Pass want = pass(model, tokens);
            Rows got(want.selected.size());
            Decoder decoder(model, [&](int64_t layer, const AttentionTrace& trace) {
                note(trace, got[static_cast<size_t>(layer)]);
            });
            const std::span<const int32_t> all(tokens.data<int32_t>(), static_cast<size_t>(length));
            Tensor logits = decoder.read(all.first(static_cast<size_t>(prompt)));
            for (int64_t t = prompt; t < length; ++t)
                logits = decoder.read(all.subspan(static_cast<size_t>(t), 1));
            CHECK(got == want.selected);
            CHECK(bit_identical(logits, want.logits.rows(length - 1, length).alias(logits.shape())));
        }
}

namespace {
constexpr SelectorLoss every_loss[] = {SelectorLoss::alignment, SelectorLoss::full_alignment,
                                       SelectorLoss::entropy};
}

TEST_CASE("selectors: who learns has losses, and parameters that they alone reach") {
    for (const Case& each : every_case()) {
        INFO(each.name);
        const Transformer model(each.config, ParameterInit{});
        const bool learns = selector_kind(each.config.selector).has_indexer;
        CHECK(model.indexer_parameters().empty() == !learns);
        CHECK(model.config().has_indexer() == learns);
        for (const AttentionStage stage : {AttentionStage::dense, AttentionStage::sparse})
            for (const SelectorLoss loss : every_loss) {
                for (const NamedTensor& p : model.parameters()) p.tensor.set_requires_grad(true);
                const ModelOutput out =
                    model.forward(random_tokens({2, length}, 3, 13),
                                  {.stage = stage, .indexer_loss = true, .which_loss = loss});
                CHECK(out.indexer_loss.defined() == learns);
                if (!out.indexer_loss.defined()) continue;
                backward(out.indexer_loss);
                for (const NamedTensor& p : model.parameters()) {
                    CHECK_MESSAGE(p.tensor.grad().defined() == is_indexer_parameter(p.name), p.name);
                    p.tensor.set_grad({});
                }
            }
    }
}

DEVICE_TEST_CASE("recent, sink_recent, random: a recorded step finds its selection where it was", device) {
    for (const char* name : {"recent", "sink_recent", "random"}) {
        INFO(std::string(name));
        const Transformer model(config_of(selector_kind(name)), {.device = device});
        const auto indices_of = [&](int64_t batch) {
            Tensor indices;
            ForwardOptions options;
            options.observe = [&](int64_t, const AttentionTrace& trace) {
                indices = trace.selection.indices;
            };
            const NoGrad guard;
            model.forward(random_tokens({batch, length}, 3, 13).to(device), options);
            return indices;
        };
        const Tensor first = indices_of(2), other = indices_of(1);
        CHECK(other.raw() != first.raw());
        CHECK(indices_of(2).raw() == first.raw());
    }
}

DEVICE_TEST_CASE("recent: the last k keys", device) {
    const Transformer model(config_of(selector_kind("recent")), {.device = device});
    for (const auto& layer : pass(model, random_tokens({1, length}, 3, 13)).selected)
        for (int64_t t = 0; t < length; ++t) {
            std::vector<int32_t> want(static_cast<size_t>(std::min(top_k, t + 1)));
            std::iota(want.begin(), want.end(), static_cast<int32_t>(std::max<int64_t>(0, t + 1 - top_k)));
            CHECK(layer[static_cast<size_t>(t)] == want);
        }
}

// The best keys have recall 1, and no others of their number cover more.
DEVICE_TEST_CASE("oracle: the keys that the layer's attention looks at most", device) {
    for (const Variant& variant : model_variants()) {
        INFO(variant.name);
        ModelConfig config = tiny_variant(variant, "sparse");
        config.selector = "oracle";
        const Transformer model(config, {.device = device});
        const NoGrad guard;
        ForwardOptions options;
        options.observe = [&](int64_t layer, const AttentionTrace& trace) {
            if (config.shares_index(layer)) return;
            CHECK(indexer_quality(trace.main_attention(), trace.selection).recall == 1);
        };
        model.forward(random_tokens({2, length}, 3, 13).to(device), options);
    }
}

// Scores of the past blocks of query t, by product(s) with each key of a block.
template <class Product>
std::vector<double> mean_products(int64_t t, int64_t block, Product&& product) {
    std::vector<double> scores;
    for (int64_t j = 0; j < t / block; ++j) {
        double sum = 0;
        for (int64_t s = j * block; s < (j + 1) * block; ++s) sum += product(s);
        scores.push_back(sum / static_cast<double>(block));
    }
    return scores;
}

// [B,H,T,d] on the CPU.
double dot_of(const Tensor& a, int64_t head, int64_t t, const Tensor& b, int64_t other, int64_t s) {
    const int64_t T = a.dim(2), d = a.dim(3);
    const float *x = a.data<float>() + (head * T + t) * d, *y = b.data<float>() + (other * T + s) * d;
    return std::inner_product(x, x + d, y, 0.0);
}

DEVICE_TEST_CASE("block_mean: the blocks whose mean keys the queries like best, and the own one", device) {
    for (const Variant& variant : model_variants()) {
        INFO(variant.name);
        ModelConfig config = tiny_variant(variant, "sparse");
        config.selector = "block_mean", config.selector_block = 3, config.sparse_top_k = 5;
        const Transformer model(config, {.device = device});
        const NoGrad guard;
        ForwardOptions options;
        options.observe = [&](int64_t layer, const AttentionTrace& trace) {
            if (config.shares_index(layer)) return;
            const Tensor q = trace.q.to(Device{}), k = trace.k.to(Device{});
            const Selection got = on(Device{}, trace.selection);
            for (int64_t t = 0; t < length; ++t)
                CHECK(chosen(got, 0, t) ==
                      oracle_blocks(mean_products(t, 3,
                                                  [&](int64_t s) {
                                                      double sum = 0;
                                                      for (int64_t h = 0; h < q.dim(1); ++h)
                                                          sum += dot_of(q, h, t, k, h / (q.dim(1) / k.dim(1)),
                                                                        s);
                                                      return sum;
                                                  }),
                                    t, 3, 5));
        };
        model.forward(random_tokens({1, length}, 3, 13).to(device), options);
    }
}

IndexerInput in_double(const IndexerOperands& there) {
    const auto doubles = [](const Tensor& x) { return x.to(Device{}).to(DType::float64); };
    return {doubles(there.q), doubles(there.k), doubles(there.w)};
}

// Each key of a whole block becomes the mean of the block's.
IndexerInput with_pooled_keys(const IndexerInput& in, int64_t block) {
    const int64_t whole = in.k.dim(1) / block * block, width = in.k.dim(2);
    const Tensor k = in.k.clone();
    for (int64_t s = 0; s < whole; ++s)
        for (int64_t i = 0; i < width; ++i) {
            double sum = 0;
            for (int64_t r = 0; r < block; ++r)
                sum += in.k.data<double>()[(s / block * block + r) * width + i];
            k.data<double>()[s * width + i] = sum / static_cast<double>(block);
        }
    return {in.q, k, in.w};
}

std::vector<double> block_scores(const IndexerInput& pooled, double scale, int64_t t, int64_t block) {
    std::vector<double> scores;
    for (int64_t j = 0; j < t / block; ++j) scores.push_back(oracle_score(pooled, scale, 0, t, j * block));
    return scores;
}

DEVICE_TEST_CASE("indexer_pool: blocks by the indexer's score of their mean keys, and the own one", device) {
    for (const IndexerWeights weights : {IndexerWeights::on, IndexerWeights::off}) {
        ModelConfig config = config_of(selector_kind("indexer"), 5);
        config.indexer_pool = 3, config.indexer_weights = weights;
        const Transformer model(config, {.std = 0.4, .device = device});
        const NoGrad guard;
        ForwardOptions options;
        options.observe = [&](int64_t, const AttentionTrace& trace) {
            const IndexerOperands& there = *trace.indexer_operands();
            const IndexerInput pooled = with_pooled_keys(in_double(there), 3);
            if (weights == IndexerWeights::off)
                CHECK(bit_identical(pooled.w, Tensor::full(pooled.w.shape(), 1, DType::float64)));
            const Selection got = on(Device{}, trace.selection);
            for (int64_t t = 0; t < length; ++t)
                CHECK(chosen(got, 0, t) == oracle_blocks(block_scores(pooled, there.scale, t, 3), t, 3, 5));
        };
        model.forward(random_tokens({1, length}, 3, 13).to(device), options);
    }
}

// Its two stages by loops; with candidates for all keys, the indexer's own selection.
DEVICE_TEST_CASE("hisa: the indexer's best among the tokens of the blocks that it likes best", device) {
    const int64_t T = 24, k = 4, block = 3;
    for (const IndexerKind kind : {IndexerKind::plain, IndexerKind::deepseek})
        for (const int64_t candidates : {1, 2, 6}) {
            INFO(std::string(name_of(kind)) << ", " << candidates << " candidates");
            ModelConfig config = config_of(selector_kind("hisa"), k);
            config.selector_block = block, config.hisa_candidates = candidates, config.indexer = kind;
            const Transformer model(config, {.std = 0.4, .device = device});
            const NoGrad guard;
            ForwardOptions options;
            options.observe = [&](int64_t, const AttentionTrace& trace) {
                const IndexerOperands& there = *trace.indexer_operands();
                const IndexerInput in = in_double(there);
                const IndexerInput pooled = with_pooled_keys(in, block);
                const Selection got = on(Device{}, trace.selection);
                for (int64_t t = 0; t < T; ++t) {
                    const std::vector<int32_t> keys =
                        oracle_blocks(block_scores(pooled, there.scale, t, block), t, block, candidates * k);
                    std::vector<double> scores;
                    for (const int32_t s : keys) scores.push_back(oracle_score(in, there.scale, 0, t, s));
                    std::vector<int32_t> want;
                    for (const int32_t place :
                         oracle_top(scores.data(), static_cast<int64_t>(scores.size()), k))
                        want.push_back(keys[static_cast<size_t>(place)]);
                    CHECK(chosen(got, 0, t) == want);
                }
                if (candidates * k >= T) CHECK(same_selection(got, on(Device{}, indexer_select(there, k))));
            };
            model.forward(random_tokens({1, T}, 3, 13).to(device), options);
        }
}

// By layer: who reads whose keys, and what trains the two indexers.
DEVICE_TEST_CASE(
    "index_share: a layer S reads the keys of the last F, which learns from both or from its own", device) {
    for (const IndexShareLoss loss : {IndexShareLoss::own, IndexShareLoss::served})
        for (const AttentionStage stage : {AttentionStage::dense, AttentionStage::sparse}) {
            INFO(std::string(name_of(loss))
                 << std::string(stage == AttentionStage::dense ? ", dense" : ", sparse"));
            ModelConfig config = config_of(selector_kind("indexer"));
            config.n_layers = 4, config.index_share = "FSSF", config.index_share_loss = loss;
            const Transformer model(config, {.std = 1, .device = device});
            std::vector<AttentionTrace> traces;
            ForwardOptions options{.stage = stage, .indexer_loss = true};
            options.observe = [&](int64_t, const AttentionTrace& trace) { traces.push_back(trace); };
            const NoGrad guard;
            const ModelOutput out = model.forward(random_tokens({2, length}, 3, 13).to(device), options);
            REQUIRE(traces.size() == 4);
            for (const size_t layer : {1, 2}) {
                CHECK(traces[layer].selector == traces[0].selector);
                CHECK(traces[layer].indexer_operands() == traces[0].indexer_operands());
            }
            CHECK(traces[3].selector != traces[0].selector);
            const auto kl = [&](size_t indexer, size_t layer) {
                const IndexerOperands& operands = *traces[indexer].indexer_operands();
                const MainAttention attention = traces[layer].main_attention();
                if (stage == AttentionStage::dense) return indexer_kl_dense(operands, attention).item();
                const Selection keys = indexer_select(operands, top_k);
                CHECK(same_selection(traces[layer].selection, keys));
                return indexer_kl_sparse(operands, attention, keys).item();
            };
            const double first =
                loss == IndexShareLoss::own ? kl(0, 0) : (kl(0, 0) + kl(0, 1) + kl(0, 2)) / 3;
            CHECK(out.indexer_loss.item() == doctest::Approx((first + kl(3, 3)) / 2).epsilon(1e-5));
        }
}

// What attention reads does not depend on what the indexer learns from.
DEVICE_TEST_CASE("indexer: each of its losses is that of its layer's operands and attention", device) {
    const ModelConfig config = config_of(selector_kind("indexer"));
    const Transformer model(config, {.std = 1, .device = device});
    const Tensor tokens = random_tokens({2, length}, 3, 13).to(device);
    const NoGrad guard;
    for (const AttentionStage stage : {AttentionStage::dense, AttentionStage::sparse}) {
        const ModelOutput plain = model.forward(tokens, {.stage = stage});
        for (const SelectorLoss loss : every_loss) {
            INFO("loss " << static_cast<int>(loss) << " stage " << static_cast<int>(stage));
            double want = 0;
            ForwardOptions options{.stage = stage, .indexer_loss = true, .which_loss = loss};
            options.observe = [&](int64_t, const AttentionTrace& t) {
                const IndexerOperands& operands = *t.indexer_operands();
                const bool selected = loss == SelectorLoss::alignment && stage == AttentionStage::sparse;
                const Tensor of_layer = loss == SelectorLoss::entropy ? indexer_negentropy(operands)
                                        : selected
                                            ? indexer_kl_sparse(operands, t.main_attention(), t.selection)
                                            : indexer_kl_dense(operands, t.main_attention());
                want += of_layer.item() / static_cast<double>(config.n_layers);
            };
            const ModelOutput out = model.forward(tokens, options);
            CHECK(out.indexer_loss.item() == doctest::Approx(want).epsilon(1e-5));
            CHECK(bit_identical(out.logits, plain.logits));
        }
    }
}

DEVICE_TEST_CASE("sink_recent: the first tokens and the last ones", device) {
    for (const auto& sizes : {std::pair{5, 2}, {5, 0}, {3, 4}, {1, 4}, {7, 3}}) {
        const int k = sizes.first, sinks = sizes.second;
        INFO("k " << k << " sinks " << sinks);
        ModelConfig config = config_of(selector_kind("sink_recent"), k);
        config.sink_tokens = sinks;
        const Transformer model(config, {.device = device});
        for (const auto& layer : pass(model, random_tokens({1, length}, 3, 13)).selected)
            for (int64_t t = 0; t < length; ++t) {
                const int64_t first = std::min(sinks, k - 1);
                std::vector<int32_t> want;
                for (int64_t s = 0; s <= t; ++s)
                    if (t < k || s < first || s > t - (k - first)) want.push_back(static_cast<int32_t>(s));
                CHECK(layer[static_cast<size_t>(t)] == want);
            }
    }
}

TEST_CASE("random: the keys whose numbers are largest, of each query and layer others") {
    ModelConfig config = config_of(selector_kind("random"));
    config.selector_seed = 7;
    const Pass drawn = pass(Transformer(config, ParameterInit{}), random_tokens({1, length}, 3, 13));
    for (size_t layer = 0; layer < drawn.selected.size(); ++layer)
        for (int64_t t = 0; t < length; ++t) {
            const auto number = [&](int64_t s) {
                return philox({7, layer}, static_cast<uint64_t>(t) * 0x100000000u + static_cast<uint64_t>(s))
                    .v[0];
            };
            std::vector<int32_t> want;
            for (int64_t s = 0; s <= t; ++s) {
                int64_t before = 0;
                for (int64_t other = 0; other <= t; ++other) before += number(other) > number(s);
                if (before < top_k) want.push_back(static_cast<int32_t>(s));
            }
            CHECK(drawn.selected[layer][static_cast<size_t>(t)] == want);
        }
    CHECK(drawn.selected[0] != drawn.selected[1]);
    CHECK(pass(Transformer(config, ParameterInit{}), random_tokens({1, length}, 8, 13)).selected ==
          drawn.selected);
    config.selector_seed = 8;
    CHECK(pass(Transformer(config, ParameterInit{}), random_tokens({1, length}, 3, 13)).selected !=
          drawn.selected);
}

TEST_CASE("selectors: an unknown name is refused with the known ones") {
    ModelConfig config = config_of(selector_kinds().front());
    config.selector = "clairvoyant";
    check_error(
        "selector: 'clairvoyant', want one of indexer, hisa, block_mean, oracle, recent, sink_recent, random",
        [&] { validate(config); });
}
