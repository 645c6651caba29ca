// What the attention pictures are drawn from, checked against its definition; and the files.
#include "framework/report/inspect.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "framework/attention/selection/selection_recall.h"
#include "framework/autograd/autograd.h"
#include "framework/core/error.h"
#include "framework/io/json_file.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

ModelConfig tiny(const std::string& attention, int64_t top_k = 5) {
    ModelConfig m;
    m.attention = from_name<AttentionKind>("attention", attention);
    m.vocab_size = 300;
    m.d_model = 24, m.n_heads = 3, m.n_layers = 2, m.d_ff = 16;
    m.max_seq_len = 17;
    m.num_experts = 2, m.expert_top_k = 1;
    m.indexer_heads = 3, m.indexer_dim = 8, m.sparse_top_k = top_k;
    m.init_std = 0.3;  // attention far from uniform
    return m;
}

const Dataset& excerpt() {
    static const Dataset data = load_dataset({.data = testing::source_dir() + "/data/excerpt",
                                              .vocab_size = 300,
                                              .max_tokens = 3000,
                                              .cache_dir = "",
                                              .seq_len = 17,
                                              .batch_size = 4});
    return data;
}

bool is_one(double x) {
    return std::abs(x - 1) < 1e-5;
}

}  // namespace

TEST_CASE("attention pattern, sparse: weights over the selection, head scores that sum, a blank future") {
    const Transformer model(tiny("sparse"), ParameterInit{});
    const TextSample sample = validation_sample(excerpt(), 3);
    REQUIRE(sample.names.size() == 17);
    CHECK(sample.what == "validation window 3");
    for (const int64_t layer : {0, 1}) {
        const AttentionPattern p = attention_pattern(model, sample.tokens, layer);
        CHECK(p.layer == layer);
        REQUIRE(p.head_scores.size() == 3);
        for (int64_t t = 0; t < 17; ++t) {
            double mass = 0;
            int64_t count = 0;
            for (int64_t s = 0; s < 17; ++s) {
                const auto at = static_cast<size_t>(17 * t + s);
                if (s > t) CHECK((std::isnan(p.scores[at]) && std::isnan(p.weights[at]) && !p.selected[at]));
                if (s > t) continue;
                double sum = 0;
                for (const auto& head : p.head_scores) sum += head[at];
                CHECK(p.scores[at] == doctest::Approx(sum).epsilon(1e-4));
                CHECK(std::isnan(p.weights[at]) == (p.selected[at] == 0));
                if (p.selected[at]) mass += p.weights[at], ++count;
            }
            CHECK(is_one(mass));
            CHECK(count == std::min<int64_t>(5, t + 1));
        }
    }
}

TEST_CASE("attention pattern, classic: each head's weights and their mean, no indexer") {
    const Transformer model(tiny("classic"), ParameterInit{});
    const AttentionPattern p = attention_pattern(model, validation_sample(excerpt(), 0).tokens, 1);
    CHECK((p.scores.empty() && p.selected.empty() && p.head_scores.empty()));
    REQUIRE(p.by_head.size() == 3);
    for (int64_t t = 0; t < 17; ++t) {
        double mass = 0;
        for (int64_t s = 0; s <= t; ++s) {
            const auto at = static_cast<size_t>(17 * t + s);
            double mean = 0;
            for (const auto& head : p.by_head) mean += head[at] / 3;
            CHECK(p.weights[at] == doctest::Approx(mean));
            mass += mean;
        }
        CHECK(is_one(mass));
    }
}

TEST_CASE("samples: a text is cut at the model's length, an empty one is refused, names are readable") {
    const Tokenizer& tokenizer = excerpt().tokenizer();
    const TextSample sample = text_sample(tokenizer, "To be\n\nor not to be, that is the question.", 6);
    CHECK(sample.tokens.numel() == 6);
    CHECK(sample.left_out > 0);
    CHECK(sample.what == "text “To be  or not to be, that is the questi…”");
    for (const std::string& name : sample.names)
        CHECK((!name.empty() && name.find_first_of(" \n") == std::string::npos));
    CHECK(text_sample(tokenizer, "a", 6).left_out == 0);
    CHECK(text_sample(tokenizer, "ää", 6).what == "text “ää”");
    check_error("text: empty, want a text of at least one token", [&] { text_sample(tokenizer, "", 6); });
    const size_t windows = excerpt().windows().validation.size();
    check_error("sample: -1, want 0 to " + std::to_string(windows - 1) + " (the validation windows)",
                [] { validation_sample(excerpt(), -1); });
    CHECK_THROWS_AS(validation_sample(excerpt(), static_cast<int64_t>(windows)), Error);
}

TEST_CASE("selection statistics: counted from the patterns themselves") {
    const Transformer model(tiny("sparse"), ParameterInit{});
    const SelectionStatistics s = selection_statistics(model, excerpt(), 1);
    CHECK(s.windows == 1);
    REQUIRE(s.layers.size() == 2);
    // Only layer 0 has the same input in the dense pass of the statistics and in the sparse one of the
    // patterns.
    const LayerSelections& layer = s.layers[0];
    const AttentionPattern p = attention_pattern(model, validation_sample(excerpt(), 0).tokens, 0);
    std::vector<int64_t> distances(17, 0);
    std::vector<bool> used(17, false);
    double read = 0;
    for (size_t t = 0; t < 17; ++t)
        for (size_t k = 0; k <= t; ++k) {
            read += p.selected[17 * t + k];
            if (t < 5 || !p.selected[17 * t + k]) continue;
            ++distances[t - k];
            used[k] = true;
        }
    CHECK(layer.distance_counts == distances);
    CHECK(layer.sparsity == std::vector<double>{1 - read / (17 * 18 / 2)});
    CHECK(layer.coverage[0] == doctest::Approx(std::count(used.begin(), used.end(), true) / 17.0));
    CHECK((layer.recall[0] > 0.2 && layer.recall[0] <= 1));
    CHECK(layer.recall_of_choices[0] < layer.recall[0]);
    CHECK((layer.covered_mass[0] > 0 && layer.covered_mass[0] <= 1));
    CHECK(selection_statistics(model, excerpt(), 1000000).windows ==
          static_cast<int64_t>(excerpt().windows().validation.size()));
}

TEST_CASE("selection statistics: chance, oracle, repetition and loss, from selections and logits") {
    const Transformer model(tiny("sparse"), ParameterInit{.std = 0.3});
    const int64_t windows = 3, length = 17, k = 5;
    const SelectionStatistics s = selection_statistics(model, excerpt(), windows);
    double chance = 0, chance_of_choices = 0;
    for (int t = 0; t < length; ++t) {
        chance += std::min(1.0, double(k) / (t + 1)) / length;
        if (t >= k) chance_of_choices += double(k) / (t + 1) / (length - k);
    }
    std::vector<double> losses(length, 0.0), overlap(4, 0.0);
    for (int64_t i = 0; i < windows; ++i) {
        const Tensor tokens = validation_sample(excerpt(), i).tokens;
        std::vector<Selection> selections;
        ForwardOptions options{.stage = AttentionStage::dense};
        options.observe = [&](int64_t, const AttentionTrace& t) { selections.push_back(t.select()); };
        model.forward(tokens, options);
        for (size_t a = 0; a < 2; ++a)
            for (size_t b = 0; b < 2; ++b)
                overlap[2 * a + b] += selection_recall(selections[b], selections[a]) / double(windows);
        // The last token's target lies behind the sample: it is left out below.
        const Tensor logits = model.forward(tokens, {}).logits;
        for (int64_t t = 0; t + 1 < length; ++t)
            losses[size_t(t)] +=
                cross_entropy(logits.rows(t, t + 1), tokens.alias({length}).rows(t + 1, t + 2)).item() /
                double(windows);
    }
    REQUIRE(s.loss_by_position.size() == length);
    for (size_t t = 0; t + 1 < length; ++t)
        CHECK(s.loss_by_position[t] == doctest::Approx(losses[t]).epsilon(1e-5));
    for (size_t a = 0; a < 2; ++a) {
        const LayerSelections& layer = s.layers[a];
        INFO("layer " << a);
        CHECK(layer.chance == doctest::Approx(chance).epsilon(1e-12));
        CHECK(layer.chance_of_choices == doctest::Approx(chance_of_choices).epsilon(1e-12));
        for (size_t b = 0; b < 2; ++b)
            CHECK(s.layer_overlap[a][b] == doctest::Approx(overlap[2 * a + b]).epsilon(1e-12));
        CHECK(s.layer_overlap[a][a] == doctest::Approx(1));
        for (const auto& values : {layer.oracle_mass, layer.entropy, layer.recall_above_chance,
                                   layer.mass_above_chance, layer.ties, layer.heads_overlap, layer.first_key,
                                   layer.query_overlap, layer.oracle_mass_of_choices})
            CHECK(values.size() == windows);
        for (size_t i = 0; i < windows; ++i) {
            CHECK(
                layer.recall_above_chance[i] ==
                doctest::Approx((layer.recall_of_choices[i] - chance_of_choices) / (1 - chance_of_choices)));
            CHECK(layer.mass_above_chance[i] ==
                  doctest::Approx((layer.covered_mass_of_choices[i] - chance_of_choices) /
                                  (layer.oracle_mass_of_choices[i] - chance_of_choices)));
            CHECK(layer.covered_mass[i] <= layer.oracle_mass[i]);
        }
    }
}

TEST_CASE("attention figures: all files, and JSON with mean and spread") {
    const TemporaryFolder folder;
    const std::string out = folder.path().string();
    const TextSample sample = validation_sample(excerpt(), 0);
    const Transformer sparse(tiny("sparse"), ParameterInit{}), classic(tiny("classic"), ParameterInit{});
    CHECK(write_attention_pictures(sparse, sample, {1}, out) ==
          std::vector<std::string>{out + "/attention_pattern_layer1.png", out + "/indexer_heads_layer1.png"});
    CHECK(write_attention_pictures(classic, sample, {0}, out) ==
          std::vector<std::string>{out + "/dense_attention_layer0.png"});
    const TextSample one = text_sample(excerpt().tokenizer(), "a", 17);
    for (const Transformer* model : {&sparse, &classic}) write_attention_pictures(*model, one, {0}, out);

    write_selection_statistics(selection_statistics(sparse, excerpt(), 6), out);
    const auto json = read_json(out + "/attention_statistics.json");
    CHECK(json.at("windows") == 6);
    CHECK(json.at("loss_by_position").size() == 17);
    CHECK(json.at("layer_overlap").size() == 2);
    CHECK(json.at("layer_overlap")[0].size() == 2);
    REQUIRE(json.at("layers").size() == 2);
    for (const auto& layer : json.at("layers")) {
        for (const char* measure :
             {"sparsity", "recall", "covered_mass", "recall_of_choices", "covered_mass_of_choices",
              "oracle_mass", "oracle_mass_of_choices", "recall_above_chance", "mass_above_chance", "entropy",
              "ties", "heads_overlap", "first_key", "query_overlap", "coverage", "distance"})
            for (const char* key : {"count", "mean", "std", "min", "median", "max"})
                CHECK_MESSAGE(layer.at(measure).contains(key), measure);
        CHECK(layer.at("sparsity").at("mean").get<double>() ==
              doctest::Approx(json.at("sparsity").at("causal").get<double>()));
        const auto& distance = layer.at("distance");
        CHECK(distance.at("count") == 6 * (17 - 5) * 5);
        double sum = 0;
        for (size_t d = 0; d < 17; ++d)
            sum += static_cast<double>(d) * layer.at("distance_counts").at(d).get<double>();
        CHECK(distance.at("mean").get<double>() == doctest::Approx(sum / (6 * 12 * 5)));
        CHECK(distance.at("median").get<double>() <= distance.at("p95").get<double>());
    }
}

TEST_CASE("attention figures: when every key is read there is nothing to count, and the files say so") {
    const TemporaryFolder folder;
    const Transformer model(tiny("sparse", 17), ParameterInit{});
    const SelectionStatistics s = selection_statistics(model, excerpt(), 2);
    CHECK(s.layers[0].recall == std::vector<double>{1, 1});
    CHECK((s.layers[0].coverage.empty() && s.layers[0].recall_of_choices.empty()));
    write_selection_statistics(s, folder.path().string());
    const auto layer = read_json(folder / "attention_statistics.json").at("layers").at(0);
    CHECK(layer.at("distance") == nlohmann::ordered_json{{"count", 0}});
    CHECK(layer.at("recall_above_chance") == nlohmann::ordered_json{{"count", 0}});
    CHECK(layer.at("chance") == 1);
    CHECK(layer.at("chance_of_choices").is_null());
    CHECK(std::filesystem::file_size(folder / "attention_statistics.png") > 1000);
}
