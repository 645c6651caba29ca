#include "framework/train/metrics.h"

#include <nlohmann/json.hpp>
#include <set>

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

TEST_CASE("metrics: a number by layer is its mean, and both are kept") {
    Measurement m = evaluation(4);
    CHECK(std::isnan(m["indexer_recall"]));
    m.set_layers("indexer_recall", {0.5, 0.75});
    m.set_layers("indexer_precision_recall", {});
    CHECK(m["indexer_recall"] == 0.625);
    CHECK(std::isnan(m["indexer_precision_recall"]));
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
    for (const char* key :
         {"steps", "train_loss", "val_loss", "val_accuracy", "val_perplexity", "learning_rate", "grad_norm",
          "time_per_step", "indexer_kl", "indexer_recall", "indexer_covered_mass", "layer_recall",
          "layer_covered_mass", "step_loss", "warmup_loss", "training_seconds", "warmup_seconds",
          "total_seconds", "peak_memory_bytes"})
        CHECK_MESSAGE(json.contains(key), key);
    CHECK(json.size() == 19);  // indexer_precision_recall was never measured
    CHECK(json.at("peak_memory_bytes").dump() == "1048576");
    CHECK(json.at("val_loss") == std::vector<double>{4, 3});
    const TrainingHistory back = history_from_state(json);
    CHECK(state_of_history(back) == json);
    const Measurement run = back.of_run();
    CHECK(run["val_loss"] == 3);
    CHECK(run["time_per_step"] == 0.04);  // the upper one of two
    CHECK(run["peak_memory_bytes"] == 1 << 20);
    CHECK(std::isnan(run["indexer_kl"]));
    CHECK(std::isnan(run["train_loss"]));  // studies do not compare it
    auto lacking = json;
    lacking.erase("val_loss");
    CHECK_THROWS_AS(history_from_state(lacking), nlohmann::json::exception);
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
    const TrainingHistory back = history_from_state(json);
    CHECK(std::isnan(back["indexer_precision_recall"][0]));
    CHECK(back["indexer_precision_recall"][1] == 0.75);
    CHECK(state_of_history(back).dump() == json.dump());
}
