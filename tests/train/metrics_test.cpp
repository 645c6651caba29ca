#include "framework/train/metrics.h"

#include <bit>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/io/json_file.h"
#include "framework/program/progress.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

Measurement evaluation(double loss) {
    Measurement m;
    m["learning_rate"] = 3e-3, m["grad_norm"] = 0.5;
    m["train_loss"] = loss + 1, m["val_loss"] = loss, m["val_accuracy"] = 0.25, m["val_perplexity"] = 50;
    m["time_per_step"] = loss / 100;
    m["seconds"] = 9;  // of the step: no history keeps it
    return m;
}

}  // namespace

TEST_CASE("metrics: one name, one key and one tag each") {
    std::set<std::string> keys, tags;
    for (const MetricKey metric : all_metrics()) {
        INFO(metric->name);
        CHECK(keys.insert(metric->name).second);
        if (metric->layers) CHECK(keys.insert(metric->layers).second);
        if (metric->tag) CHECK(tags.insert(metric->tag).second);
        CHECK((metric->kept == Kept::each_evaluation || (!metric->line && !metric->layers)));
    }
    CHECK(std::string(MetricKey("val_loss")->title) == "validation loss");
    CHECK(column_title("time_per_step") == "time per step, ms");
    CHECK(column_title("val_perplexity") == "perplexity");
    CHECK(text_in_line("val_accuracy", 0.2595) == "accuracy 25.95 %");
}

TEST_CASE("metrics: what stands beside a number that chance would reach in part") {
    for (const MetricKey metric : all_metrics()) {
        INFO(metric->name);
        for (const char* beside : {metric->chance, metric->oracle})
            CHECK(metric_named(beside).has_value() == (beside != nullptr));
    }
    CHECK(metric_named(MetricKey("indexer_recall")->chance) == MetricKey("indexer_chance"));
    CHECK(!metric_named("indexer_rekall"));
}

// Raw numbers have chance and oracle beside them, and no line wraps in a terminal of 100 columns.
TEST_CASE("metrics: the lines of an evaluation") {
    Measurement m = evaluation(4.0876);
    m["val_bits_per_byte"] = 1.5;
    CHECK(model_line(m) == "train 5.0876 | val 4.0876 | accuracy 25.00 % | 1.500 bits/byte | 41 ms/step");
    CHECK(selection_line(m).empty());
    m["indexer_kl"] = 0.0123, m["indexer_captured"] = 0.812;
    m["indexer_recall"] = 0.902, m["indexer_covered_mass"] = 0.877;
    m["indexer_chance"] = 0.845, m["indexer_oracle_mass"] = 0.914;
    CHECK(selection_line(m) ==
          "KL 0.0123, captured 0.812, recall 0.902, covered mass 0.877, chance 0.845, "
          "oracle mass 0.914");
    CHECK(selection_line(m).size() <= 96);
    m["indexer_precision_recall"] = 0.9987, m["indexer_chance_of_choices"] = 0.69;
    CHECK(selection_line(m).ends_with(", recall of float32's keys 0.9987 (chance 0.690)"));
    CHECK(model_line(m).size() <= 83);  // behind "sparse 3000/3000 | "
}

TEST_CASE("metrics: a number by layer is its mean, and both are kept") {
    Measurement m = evaluation(4);
    CHECK(std::isnan(m["indexer_recall"]));
    m.set_layers("indexer_recall", {0.5, 0.75});
    m.set_layers("indexer_precision_recall", {});
    CHECK(m["indexer_recall"] == 0.625);
    CHECK(std::isnan(m["indexer_precision_recall"]));
    m.set_layers("indexer_captured", {NAN, 0.25, 0.5});
    CHECK(m["indexer_captured"] == 0.375);
    Measurement step;
    step["loss"] = 4.5;
    step.add(m);
    CHECK(step["loss"] == 4.5);
    CHECK(step.layers("indexer_recall") == std::vector<double>{0.5, 0.75});
    TrainingHistory h;
    h.note_evaluation(10, step);
    CHECK(h["indexer_recall"] == std::vector<double>{0.625});
    CHECK(h.layers("indexer_recall") == std::vector<std::vector<double>>{{0.5, 0.75}});
    CHECK(h["seconds"].empty());
    CHECK(h["loss"].empty());
}

TEST_CASE("metrics: a history as JSON, with its old keys") {
    TrainingHistory h;
    h.note_evaluation(10, evaluation(4));
    h.note_evaluation(20, evaluation(3));
    h["step_loss"] = {5, 4};
    h.total_seconds = 2.5, h.peak_memory_bytes = 1 << 20;
    const auto json = state_of_history(h);
    for (const char* key : {"steps",
                            "train_loss",
                            "val_loss",
                            "val_accuracy",
                            "val_perplexity",
                            "learning_rate",
                            "grad_norm",
                            "time_per_step",
                            "indexer_kl",
                            "indexer_recall",
                            "indexer_covered_mass",
                            "layer_recall",
                            "layer_covered_mass",
                            "layer_kl",
                            "step_loss",
                            "warmup_loss",
                            "training_seconds",
                            "warmup_seconds",
                            "total_seconds",
                            "peak_memory_bytes"})
        CHECK_MESSAGE(json.contains(key), key);
    CHECK(json.contains("source_val_loss"));
    CHECK(json.size() == 21);  // what is optional was never measured
    CHECK(json.at("peak_memory_bytes").dump() == "1048576");
    CHECK(json.at("val_loss") == std::vector<double>{4, 3});
    const TrainingHistory back = history_from_state(json, "h");
    CHECK(state_of_history(back) == json);
    const Measurement run = back.of_run();
    CHECK(run["val_loss"] == 3);
    CHECK(run["time_per_step"] == 0.04);  // the upper one of two
    CHECK(run["peak_memory_bytes"] == 1 << 20);
    CHECK(std::isnan(run["indexer_kl"]));
    CHECK(std::isnan(run["train_loss"]));  // studies do not compare it
    auto lacking = json;
    lacking.erase("val_loss");
    check_error("h: has no val_loss; is it of another version?", [&] { history_from_state(lacking, "h"); });
}

// As the versions before chance, oracle and the like wrote them: such a run goes on, and its numbers stay.
TEST_CASE("metrics: a history without the younger numbers is read, and continued") {
    TrainingHistory h;
    Measurement m = evaluation(4);
    m.set_layers("indexer_recall", {0.5, 1});
    m.set_layers("indexer_covered_mass", {0.25, 0.5});
    m["indexer_kl"] = 0.125;
    h.note_evaluation(10, m);
    auto old = state_of_history(h);
    old.erase("layer_kl");
    for (const MetricKey metric : all_metrics()) CHECK((!metric->optional || !old.contains(metric->name)));
    TrainingHistory back = history_from_state(old, "h");
    CHECK(std::isnan(back.last("indexer_chance")));
    CHECK(back.layers("indexer_kl").empty());
    m.set_layers("indexer_kl", {0.25, 0.5});
    m.set_layers("indexer_chance", {0.375, 0.375});
    back.note_evaluation(20, m);
    const auto json = state_of_history(back);
    CHECK(json.at("indexer_kl").dump() == "[0.125,0.375]");
    CHECK(json.at("layer_kl").dump() == "[[null,null],[0.25,0.5]]");
    CHECK(json.at("indexer_chance").dump() == "[null,0.375]");
    CHECK(json.at("layer_chance").dump() == "[[null,null],[0.375,0.375]]");
    CHECK(state_of_history(history_from_state(json, "h")).dump() == json.dump());
}

TEST_CASE("metrics: one that an earlier part of the run did not measure leaves gaps, not shorter series") {
    TrainingHistory h;
    h.note_evaluation(10, evaluation(4));
    Measurement more = evaluation(3);
    more["indexer_precision_recall"] = 0.75;
    more.set_layers("indexer_recall", {0.5, 1});
    h.note_evaluation(20, more);
    h.note_evaluation(30, evaluation(2));
    const auto json = state_of_history(h);
    CHECK(json.at("indexer_precision_recall").dump() == "[null,0.75,null]");
    CHECK(json.at("layer_recall").dump() == "[[null,null],[0.5,1.0],[null,null]]");
    const TrainingHistory back = history_from_state(json, "h");
    CHECK(std::isnan(back["indexer_precision_recall"][0]));
    CHECK(back["indexer_precision_recall"][1] == 0.75);
    CHECK(state_of_history(back).dump() == json.dump());
}

namespace {

constexpr double odd_numbers[] = {0.0,
                                  -0.0,
                                  5e-324,
                                  -2.2250738585072e-308,
                                  1.0 / 3,
                                  1e15,
                                  123456789012345680.0,
                                  1e308,
                                  -1.7976931348623157e308,
                                  std::numeric_limits<double>::infinity(),
                                  -std::numeric_limits<double>::infinity(),
                                  std::numeric_limits<double>::quiet_NaN()};

bool same_bits(double a, double b) {
    return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

}  // namespace

TEST_CASE("metrics: what a history's state holds is what is read back, bit for bit, whatever the number") {
    const TemporaryFolder folder;
    TrainingHistory h;
    // The first evaluation measures everything: a series begins with what was measured.
    for (const double value : odd_numbers) {
        Measurement m;
        for (const MetricKey metric : evaluation_metrics())
            if (metric->layers) m.set_layers(metric, {value, 1});
        for (const MetricKey metric : evaluation_metrics()) m[metric] = value;
        h.note_evaluation(static_cast<int64_t>(h.steps.size()) + 1, m);
        h["step_loss"].push_back(value);
        h["warmup_loss"].push_back(value);
    }
    h.total_seconds = 1e308, h.peak_memory_bytes = INT64_MAX;
    write_json_atomic(folder / "h.json", state_of_history(h));
    const TrainingHistory back = history_from_state(read_json(folder / "h.json"), "h.json");
    int64_t compared = 0;
    for (const MetricKey metric : all_metrics()) {
        INFO(metric->name);
        REQUIRE(back[metric].size() == h[metric].size());
        REQUIRE(back.layers(metric).size() == h.layers(metric).size());
        for (size_t i = 0; i < h[metric].size(); ++i, ++compared)
            CHECK_MESSAGE(same_bits(back[metric][i], h[metric][i]), h[metric][i]);
        for (size_t i = 0; i < h.layers(metric).size(); ++i)
            for (size_t l = 0; l < 2; ++l)
                CHECK(same_bits(back.layers(metric)[i][l], h.layers(metric)[i][l]));
    }
    CHECK(compared > 100);
    CHECK(back.total_seconds == 1e308);
    CHECK(back.peak_memory_bytes == INT64_MAX);
}

TEST_CASE("metrics: null stands for what was not measured, texts for what was measured and is infinite") {
    TrainingHistory h;
    h["step_loss"] = {1, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                      NAN};
    CHECK(state_of_history(h).at("step_loss").dump() == R"([1.0,"inf","-inf",null])");
    auto json = state_of_history(h);
    json["step_loss"] = {"nan", nullptr, "inf", 1};
    const TrainingHistory back = history_from_state(json, "h");
    CHECK(std::isnan(back["step_loss"][0]));
    CHECK(std::isnan(back["step_loss"][1]));
    CHECK(std::isinf(back["step_loss"][2]));
}

TEST_CASE("metrics: a history is not believed") {
    using Json = nlohmann::ordered_json;
    TrainingHistory h;
    Measurement m = evaluation(4);
    m.set_layers("indexer_recall", {0.5, 1});
    h.note_evaluation(10, m);
    h.note_evaluation(20, m);
    h["step_loss"] = std::vector<double>(20, 4.0), h["warmup_loss"] = {1, 2, 3};
    const Json good = state_of_history(h);
    const auto refuse = [&](const std::string& message, const std::string& key, const Json& value) {
        Json json = good;
        json[key] = value;
        check_error("h: " + message, [&] { history_from_state(json, "h"); });
    };
    check_history(history_from_state(good, "h"), 3, 20, "h");
    refuse("steps[1] is 10, want a step after step 10", "steps", {10, 10});
    refuse("steps[0] is 0, want a step after step 0", "steps", {0, 10});
    refuse("steps[1] is 1e+300, want a step after step 10", "steps", {10, 1e300});
    refuse("steps[1] is 18446744073709551615, want a step after step 10", "steps", {10, UINT64_MAX});
    refuse("steps is \"ten\", want a list", "steps", "ten");
    refuse("2 steps but 3 values of val_loss", "val_loss", {1, 2, 3});
    refuse("2 steps but 1 values of grad_norm", "grad_norm", Json::array({1}));
    refuse("val_loss[1] is \"high\", want a number", "val_loss", {1, "high"});
    refuse("val_loss is null, want a list", "val_loss", nullptr);
    refuse("layer_recall[1] has 1 layers, layer_recall[0] has 2", "layer_recall", {{1, 2}, Json::array({3})});
    refuse("layer_recall[0] is 1, want a list", "layer_recall", {1, 2});
    refuse("2 steps but 1 values of layer_recall", "layer_recall", Json::array({{1, 2}}));
    refuse("training_seconds is -1, want a number of at least 0", "training_seconds", -1);
    refuse("total_seconds is \"inf\", want a number of at least 0", "total_seconds", "inf");
    refuse("warmup_seconds is null, want a number of at least 0", "warmup_seconds", nullptr);
    refuse("peak_memory_bytes is 1e+300, want a whole number of at least 0", "peak_memory_bytes", 1e300);
    check_error("h: want one JSON object", [] { history_from_state(3, "h"); });
    check_error("h: 21 steps done, but 20 values of step_loss", [&] { check_history(h, 3, 21, "h"); });
    check_error("h: 4 steps done, but 3 values of warmup_loss", [&] { check_history(h, 4, 20, "h"); });
    h["step_loss"].resize(15);
    check_error("h: an evaluation at step 20, but 15 steps done", [&] { check_history(h, 3, 15, "h"); });
}

TEST_CASE("metrics: a number of any size fits in a line") {
    CHECK(text_in_line("val_loss", 59.236) == "val 59.2360");
    CHECK(text_in_line("val_loss", 99999999) == "val 99999999.0000");
    CHECK(text_in_line("val_loss", 1.234e228) == "val 1.2e+228");
    CHECK(text_in_line("val_loss", std::numeric_limits<double>::infinity()) == "val inf");
    CHECK(number_text("{:+.2f} %", 1e9) == "+1.0e+09 %");
    CHECK(number_text("{:+.2f} %", -0.5) == "-0.50 %");
}
