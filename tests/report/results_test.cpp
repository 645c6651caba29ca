// comparison_metrics.json and training_results.json: every number against arithmetic written out here.
#include "framework/report/results.h"

#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/train/manifest.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
using Json = nlohmann::ordered_json;

namespace {

ExperimentConfig tiny(AttentionKind attention) {
    ExperimentConfig c;
    c.model.attention = attention;
    c.model.vocab_size = 50, c.model.d_model = 8, c.model.n_heads = 2, c.model.n_layers = 2, c.model.d_ff = 8;
    c.model.max_seq_len = 8, c.model.num_experts = 2, c.model.expert_top_k = 1;
    c.model.indexer_heads = 2, c.model.indexer_dim = 4, c.model.sparse_top_k = 3;
    return c;
}

Manifest manifest_of_run(const std::string& run, const ExperimentConfig& config) {
    return {.run = run,
            .config = config,
            .data = "some text",
            .fingerprint = {.corpus = "c0", .tokenizer = "70"},
            .sessions = {{.started = "2026-11-29T10:00:00Z", .machine = {.device = "cpu", .threads = 2}}}};
}

TrainingHistory classic_history() {
    TrainingHistory h;
    h.steps = {10, 20, 30};
    h["step_loss"] = {6, 5, 4, 3};
    h["train_loss"] = {5.5, 4.5, 3.75};
    h["val_loss"] = {5, 4, 4.5};  // the best is not the last
    h["val_accuracy"] = {0.1, 0.25, 0.2};
    h["val_perplexity"] = {148.4, 54.6, 90};
    h["time_per_step"] = {0.5, 0.1, 0.2};  // median 0.2
    h["learning_rate"] = h["grad_norm"] = {1, 1, 1};
    h.training_seconds = 2, h.total_seconds = 3;
    h.peak_memory_bytes = 1000;
    return h;
}

TrainingHistory sparse_history() {
    TrainingHistory h = classic_history();
    h["step_loss"] = {6, 5, 4, 3, 2};
    h["warmup_loss"] = {0.5, 0.25};
    h["train_loss"] = {5.5, 4.5, 4};
    h["val_loss"] = {5, 4.5, 4.725};
    h["val_accuracy"] = {0.1, 0.125, 0.25};
    h["val_perplexity"] = {148.4, 90, 112.73};
    h["time_per_step"] = {0.4, 0.1, 0.16};  // median 0.16
    h["indexer_kl"] = {0.3, 0.2, 0.1}, h["indexer_recall"] = h["indexer_covered_mass"] = {0.5, 0.6, 0.7};
    h.training_seconds = 4, h.warmup_seconds = 0.5, h.total_seconds = 5;
    h.peak_memory_bytes = 1250;
    return h;
}

struct Results {
    Results() : paths(folder / "results") {
        write(AttentionKind::classic, classic_history());
        write(AttentionKind::sparse, sparse_history());
    }
    void write(AttentionKind attention, const TrainingHistory& history, int64_t top_k = 3) const {
        const std::string run = paths.variant(attention);
        Manifest manifest = manifest_of_run(name_of(attention), tiny(attention));
        manifest.config.model.sparse_top_k = top_k;
        manifest.sources = {{.name = "a.txt", .held_out_bytes = 70}, {.name = "b.txt", .held_out_bytes = 90}};
        make_folder(run);
        make_folder(paths.comparison());
        write_manifest(run, manifest);
        write_file_atomic(run + "/final_model.pt", "weights");
        write_json_atomic(run + "/training_results.json", training_results(history, manifest));
    }
    // `sparse`: seconds of its steps, beside 0.25 of each classic one.
    Json compared(double sparse = 0.2) const {
        write_comparison(
            paths,
            [sparse](const ExperimentConfig&) {
                return PairedSteps{{0.25, 0.5, 0.25}, {sparse, 2 * sparse, sparse}};
            },
            false);
        return read_json(paths.comparison() + "/comparison_metrics.json");
    }

    TemporaryFolder folder;
    ResultPaths paths;
};

void check_number(const Json& json, const char* key, double want) {
    INFO(key);
    REQUIRE(json.contains(key));
    CHECK(json.at(key).get<double>() == doctest::Approx(want).epsilon(1e-12));
}

// measured and met of the criterion that begins so.
std::pair<double, bool> judged(const Json& metrics, const std::string& begin) {
    for (const Json& item : metrics.at("success_criteria"))
        if (item.at("criterion").get<std::string>().starts_with(begin))
            return {item.at("measured").get<double>(), item.at("met").get<bool>()};
    FAIL("no criterion " << begin);
    return {};
}

}  // namespace

TEST_CASE("results: quality and efficiency in comparison_metrics.json by hand") {
    const Results results;
    const Json metrics = results.compared();
    const Json &performance = metrics.at("performance"), &difference = performance.at("difference");
    check_number(performance.at("classic"), "val_loss", 4.5);
    check_number(performance.at("classic"), "best_val_loss", 4);
    check_number(performance.at("classic"), "val_accuracy", 0.2);
    check_number(performance.at("classic"), "train_loss", 3.75);
    check_number(performance.at("sparse"), "val_perplexity", 112.73);
    check_number(difference, "val_loss", 4.725 - 4.5);
    check_number(difference, "val_loss_percent", 5);  // 0.225 of 4.5
    check_number(difference, "val_accuracy", 0.05);
    check_number(difference, "val_perplexity", 22.73);
    check_number(difference, "best_val_loss", 0.5);
    check_number(difference, "train_loss", 0.25);

    const Json& efficiency = metrics.at("efficiency");
    check_number(efficiency.at("classic"), "time_per_step", 0.2);
    check_number(efficiency.at("classic"), "avg_time_per_step", 0.5);  // 2 s of 4 steps
    check_number(efficiency.at("sparse"), "avg_time_per_step", 0.8);   // 4 s of 5 steps
    check_number(efficiency.at("sparse"), "warmup_time", 0.5);
    check_number(efficiency.at("sparse"), "total_time", 5);
    check_number(efficiency, "speedup", 1.25);
    check_number(efficiency, "memory_ratio", 1.25);
    // Of 8 queries 1 + 2 + 6 * 3 = 21 keys are read, of 64 or of 36.
    check_number(metrics.at("sparsity"), "square", 1 - 21.0 / 64);
    check_number(metrics.at("sparsity"), "causal", 1 - 21.0 / 36);
}

TEST_CASE("results: the criteria in comparison_metrics.json, on both sides of their bounds") {
    const Results results;
    Json metrics = results.compared();
    CHECK(judged(metrics, "sparse validation loss").first == doctest::Approx(1.05));
    CHECK(judged(metrics, "speed-up") == std::pair{1.25, true});
    CHECK(judged(metrics, "no divergence") == std::pair{1.0, true});
    TrainingHistory worse = sparse_history();
    worse["val_loss"] = {3, 4, 4.8};
    results.write(AttentionKind::sparse, worse);
    metrics = results.compared(0.21);
    CHECK(judged(metrics, "sparse validation loss").second == false);  // 4.8 of 4.5
    CHECK(judged(metrics, "speed-up").second == false);                // 0.25 of 0.21
    CHECK(judged(metrics, "no divergence") == std::pair{0.0, false});  // by more than 1 above its start
    CHECK(metrics.at("criteria_not_judged").size() == 3);
    CHECK(metrics["criteria_not_judged"][0].at("reason") == "exp3 was not run");
    // 21 keys read of 64, or of 36: whatever the models learned.
    CHECK(metrics["criteria_not_judged"][1].at("reason") == "67.2 %: sparse_top_k 3 of 8 tokens decides it");
    CHECK(metrics["criteria_not_judged"][2].at("reason") == "41.7 %: sparse_top_k 3 of 8 tokens decides it");
    // Where no key is left out, equal losses are no merit.
    results.write(AttentionKind::sparse, sparse_history(), 8);
    metrics = results.compared();
    CHECK(metrics.at("success_criteria").size() == 2);
    CHECK(judged(metrics, "speed-up").second);
    CHECK(judged(metrics, "no divergence").second);
    CHECK(metrics["criteria_not_judged"].back() ==
          Json{{"criterion", "sparse validation loss / classic validation loss"},
               {"reason", "sparse_top_k 8 of 8 tokens leaves out no key: the sparse model is a dense one"}});
}

TEST_CASE("results: the validation loss by source, of a run and of both models") {
    const Results results;
    TrainingHistory classic = classic_history(), sparse = sparse_history();
    classic.layers("val_loss") = {{9, 9}, {9, 9}, {4.25, 4.75}};
    sparse.layers("val_loss") = {{9, 9}, {9, 9}, {4.5, NAN}};
    CHECK(results.compared().at("performance").at("sources").empty());  // older histories have none
    results.write(AttentionKind::classic, classic);
    results.write(AttentionKind::sparse, sparse);
    const Json sources = results.compared().at("performance").at("sources");
    CHECK(sources.dump() == R"([{"source":"a.txt","held_out_bytes":70,"classic":4.25,"sparse":4.5},)"
                            R"({"source":"b.txt","held_out_bytes":90,"classic":4.75,"sparse":"nan"}])");
    const Json of_run = read_json(results.paths.variant(AttentionKind::classic) + "/training_results.json");
    CHECK(of_run.at("held_out")[1].at("val_loss") == 4.75);
    CHECK(of_run.at("source_val_loss").size() == 3);
}

TEST_CASE("results: what training_results.json holds beside the history") {
    const Manifest manifest = manifest_of_run("r", tiny(AttentionKind::sparse));
    const Json json = training_results(sparse_history(), manifest);
    check_number(json, "avg_time_per_step", 0.8);
    check_number(json, "median_time_per_step", 0.16);
    check_number(json, "total_time", 5);
    check_number(json.at("sparsity"), "causal", 1 - 21.0 / 36);
    CHECK(json.at("run") == "r");
    CHECK(json.at("threads") == 2);
    CHECK(json.at("warmup_results").at("steps").dump() == "[1,2]");
    CHECK(json.at("warmup_results").at("indexer_loss").dump() == "[0.5,0.25]");
    CHECK(!training_results(classic_history(), manifest_of_run("r", tiny(AttentionKind::classic)))
               .contains("sparsity"));
}
