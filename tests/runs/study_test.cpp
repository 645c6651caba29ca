#include "framework/runs/study.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/runs/baseline.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

StudyPlan plan_of(const std::vector<std::string>& keys, const std::vector<std::string>& values,
                  const std::vector<AttentionKind>& variants = {AttentionKind::sparse}, int64_t seeds = 1) {
    StudyPlan plan{.title = "a study",
                   .folder = "study",
                   .varied = parse_varied(keys, values),
                   .variants = variants,
                   .seeds = seeds};
    apply_preset(plan.base, "small");
    return plan;
}

int64_t count_of(const std::vector<StudyRun>& runs, AttentionKind variant) {
    return std::count_if(runs.begin(), runs.end(), [&](const StudyRun& r) { return r.variant == variant; });
}

// Two values and two seeds: one run failed, the others have these losses.
struct Finished {
    StudyPlan plan = plan_of({"sparse_top_k"}, {"4,8"}, {AttentionKind::sparse}, 2);
    std::vector<StudyRun> runs = runs_of(plan);
    Finished() {
        for (size_t i = 0; i < runs.size(); ++i) {
            runs[i].status = RunStatus::finished;
            Measurement& m = runs[i].metrics;
            m["val_loss"] = 4.0 + static_cast<double>(i);
            m["val_accuracy"] = 0.25, m["val_perplexity"] = 50;
            m["time_per_step"] = 0.125, m["peak_memory_bytes"] = 1 << 20;
            m["indexer_kl"] = 0.5, m["indexer_recall"] = 0.75, m["indexer_covered_mass"] = 0.875;
            m["indexer_chance"] = 0.5, m["indexer_oracle_mass"] = 0.9;
        }
        runs[1].metrics = {};
        runs[1].status = RunStatus::failed;
        runs[1].error = "diverged";
        runs[1].message = "diverged at step 2, lower \"learning_rate\"";
    }
};

}  // namespace

TEST_CASE("study: keys and values from the command line") {
    const auto varied = parse_varied({"indexer_heads", "learning_rate"}, {"2, 4,16", "1e-3,0.003"});
    REQUIRE(varied.size() == 2);
    CHECK(varied[0].name == "indexer_heads");
    CHECK(varied[0].values == std::vector<std::string>{"2", "4", "16"});
    CHECK(varied[1].values == std::vector<std::string>{"0.001", "0.003"});
    CHECK(parse_varied({"indexer"}, {"plain,deepseek"})[0].values.size() == 2);

    const auto refused = [](const std::string& message, const std::vector<std::string>& keys,
                            const std::vector<std::string>& values) {
        check_error(message, [&] { parse_varied(keys, values); });
    };
    refused("unknown key 'indexer_head', did you mean indexer_heads? (--help lists all)", {"indexer_head"},
            {"2"});
    refused("what to vary? give --vary KEY --values A,B,...; --help shows all", {}, {});
    refused("--values '2,4' without --vary: which key takes these values?", {}, {"2,4"});
    refused("--vary d_ff: has no --values A,B,...", {"d_model", "d_ff"}, {"32"});
    refused("--values '2' without a --vary of their own", {"d_model"}, {"32", "2"});
    refused("--values '' for d_model: holds an empty value", {"d_model"}, {""});
    refused("--values '32,,64' for d_model: holds an empty value", {"d_model"}, {"32,,64"});
    refused("--values '32,' for d_model: holds an empty value", {"d_model"}, {"32,"});
    refused("--values '1e-3,0.001' for learning_rate: 0.001 appears twice", {"learning_rate"},
            {"1e-3,0.001"});
    refused("d_model: 'wide', want a whole number", {"d_model"}, {"32,wide"});
    refused("d_model: '32.5', want a whole number", {"d_model"}, {"32.5"});
    refused("dropout: nan, want a finite number", {"dropout"}, {"nan"});
    refused("--vary d_model: given twice", {"d_model", "d_model"}, {"1", "2"});
    refused("--vary results_dir: says what is written where, not how a model is trained", {"results_dir"},
            {"a,b"});
}

TEST_CASE("study: values are ranked by the loss, and by bits per byte where tokens differ") {
    const auto best = [](const std::string& key, const std::string& values) {
        const StudyPlan plan = plan_of({key}, {values});
        std::vector<StudyRun> runs = runs_of(plan);
        for (size_t i = 0; i < runs.size(); ++i) {  // one rises where the other falls
            runs[i].status = RunStatus::finished;
            runs[i].metrics["val_loss"] = 4.0 + static_cast<double>(i);
            runs[i].metrics["val_bits_per_byte"] = 4.0 - static_cast<double>(i);
        }
        CHECK(study_json(plan, runs).at("ranked_by") == ranking_metric(plan)->name);
        return best_combination(plan, combinations_of(runs), AttentionKind::sparse)->values.front();
    };
    CHECK(best("d_model", "32,64,96") == "32");
    CHECK(best("vocab_size", "300,512,2048") == "2048");
    CHECK(best("tokenizer", "a.json,b.json") == "b.json");
    const StudyPlan plan = plan_of({"d_model"}, {"32,64"});
    CHECK(best_combination(plan, combinations_of(runs_of(plan)), AttentionKind::sparse) == nullptr);
}

TEST_CASE("study: every combination, seed by seed, a folder each") {
    const StudyPlan plan =
        plan_of({"sparse_top_k", "indexer_heads"}, {"4,8", "1,2,4"}, {AttentionKind::sparse}, 2);
    const std::vector<StudyRun> runs = runs_of(plan);
    REQUIRE(runs.size() == 12);
    CHECK(runs[0].values == std::vector<std::string>{"4", "1"});
    CHECK(runs[1].values == std::vector<std::string>{"4", "2"});
    CHECK(runs[3].values == std::vector<std::string>{"8", "1"});
    CHECK(runs[5].config.model.indexer_heads == 4);
    CHECK(runs[5].config.model.sparse_top_k == 8);
    CHECK(runs[5].config.seed == 42);
    CHECK(runs[6].config.seed == 43);
    CHECK(label_of(plan, runs[6]) == "sparse_top_k = 4, indexer_heads = 1, seed 43");
    std::set<std::string> folders;
    for (const StudyRun& run : runs) folders.insert(run.folder);
    CHECK(folders.size() == 12);
}

TEST_CASE("study: a run's folder is a matter of its configuration alone") {
    StudyPlan plan = plan_of({"sparse_top_k"}, {"4,8"});
    const std::string folder = runs_of(plan)[0].folder;
    CHECK(folder.find("study/runs/sparse_sparse_top_k=4_seed=42_") == 0);
    CHECK(runs_of(plan_of({"sparse_top_k"}, {"16,4"}))[1].folder == folder);  // other values beside it
    plan.base.learning_rate = 0.5;
    CHECK(runs_of(plan)[0].folder != folder);
    plan = plan_of({"sparse_top_k"}, {"4,8"});
    plan.base.threads = 1;  // shapes no result
    CHECK(runs_of(plan)[0].folder == folder);
    plan.base.classic_steps = 7;  // does not concern the sparse model
    CHECK(runs_of(plan)[0].folder == folder);
    // A key that no config.json holds still tells runs apart when it is varied.
    const auto by_threads = runs_of(plan_of({"threads"}, {"1,2"}));
    CHECK(by_threads[0].folder != by_threads[1].folder);
    // Values that no folder can be named after.
    const auto by_data = runs_of(plan_of({"data"}, {"/a b/c.txt,/d"}));
    CHECK(by_data[0].folder.find("study/runs/sparse_data=-a-b-c.txt_seed=42_") == 0);
}

TEST_CASE("study: a variant is not trained again for keys that it does not have") {
    const auto runs = runs_of(plan_of({"sparse_top_k", "d_model"}, {"4,8,16", "32,64"},
                                      {AttentionKind::classic, AttentionKind::sparse}, 2));
    CHECK(count_of(runs, AttentionKind::classic) == 4);
    CHECK(count_of(runs, AttentionKind::sparse) == 12);
    CHECK(runs[0].variant == AttentionKind::classic);
    CHECK(runs[0].values == std::vector<std::string>{"", "32"});
    check_error("--vary sparse_top_k: the classic model does not depend on it; use --variants both or sparse",
                [] { runs_of(plan_of({"sparse_top_k"}, {"4,8"}, {AttentionKind::classic})); });
    check_error(
        "--vary classic_steps: the sparse model does not depend on it; use --variants both or classic",
        [] { runs_of(plan_of({"classic_steps"}, {"4,8"})); });
    check_error("seeds: 0, want at least 1",
                [] { runs_of(plan_of({"d_model"}, {"4"}, {AttentionKind::sparse}, 0)); });
    check_error("--vary seed: --seeds 3 trains each combination with several seeds already; use --seeds 1",
                [] { runs_of(plan_of({"seed"}, {"1,2"}, {AttentionKind::sparse}, 3)); });
    CHECK(runs_of(plan_of({"seed"}, {"1,2"})).size() == 2);
}

TEST_CASE("study: a sparse model that starts from the classic one has it trained first, once") {
    const auto runs = runs_of(plan_of({"sparse_init", "sparse_top_k"}, {"scratch,classic", "4,8"}));
    REQUIRE(count_of(runs, AttentionKind::classic) == 1);
    const auto classic = std::find_if(runs.begin(), runs.end(),
                                      [](const StudyRun& r) { return r.variant == AttentionKind::classic; });
    for (auto run = runs.begin(); run != runs.end(); ++run) {
        if (run->variant == AttentionKind::classic) continue;
        const bool starts_there = run->config.sparse_init == SparseInit::classic;
        CHECK(run->classic_model == (starts_there ? classic->folder + "/final_model.pt" : ""));
        if (starts_there) CHECK(run > classic);
    }
}

TEST_CASE("study: mean and sample standard deviation, of what is there") {
    CHECK(spread_of({1, 2, 6}).mean == 3);
    CHECK(spread_of({1, 2, 6}).deviation == doctest::Approx(std::sqrt(7.0)));
    CHECK(spread_of({5, NAN}).mean == 5);
    CHECK(spread_of({5, NAN}).count == 1);
    CHECK(std::isnan(spread_of({5}).deviation));
    CHECK(std::isnan(spread_of({}).mean));
}

TEST_CASE("study: files hold every run, and means over those that finished") {
    Finished study;
    const TemporaryFolder folder;
    study.plan.folder = folder.path().string();
    write_study_files(study.plan, study.runs);
    const auto json = read_json(folder / "study.json");
    CHECK(json.at("varied").at("sparse_top_k") == nlohmann::json::array({4, 8}));
    REQUIRE(json.at("combinations").size() == 2);
    const auto &first = json.at("combinations")[0], &second = json.at("combinations")[1];
    CHECK(first.at("values").at("sparse_top_k") == 4);
    CHECK(first.at("finished") == 2);
    CHECK(first.at("val_loss").at("mean") == 5.0);  // of 4 and 6
    CHECK(first.at("val_loss").at("std") == doctest::Approx(std::sqrt(2.0)));
    CHECK(second.at("failed") == 1);
    CHECK(second.at("val_loss").at("mean") == 7.0);
    CHECK(second.at("val_loss").at("std").is_null());
    REQUIRE(json.at("runs").size() == 4);
    CHECK(json.at("runs")[1].at("status") == "failed");
    CHECK(json.at("runs")[1].at("error") == "diverged");
    CHECK(!json.at("runs")[1].contains("val_loss"));
    CHECK(json.at("runs")[2].at("seed") == 43);
    CHECK(json.at("runs")[2].at("indexer_recall") == 0.75);

    const std::string summary = read_file(folder / "summary.csv"), runs = read_file(folder / "runs.csv");
    CHECK(summary.find("variant,sparse_top_k,finished,failed,val_loss_mean,val_loss_std,") == 0);
    CHECK(summary.find("\nsparse,8,1,1,7,,0.25,,") != std::string::npos);
    // No metric of a run that failed.
    const std::string begin = "\nsparse,8,42,failed,",
                      end = "diverged,\"diverged at step 2, lower \"\"learning_rate\"\"\"\n";
    const size_t at = runs.find(begin);
    REQUIRE(at != std::string::npos);
    const size_t metrics = at + begin.size(), after = runs.find_first_not_of(',', metrics);
    CHECK(after - metrics == run_metrics().size());
    CHECK(runs.compare(after, end.size(), end) == 0);
    write_study_figure(folder / "study.png", study.plan, study.runs);
    CHECK(std::filesystem::file_size(folder / "study.png") > 10000);
    // Nothing finished: still a picture.
    for (StudyRun& run : study.runs) run.status = RunStatus::failed;
    write_study_figure(folder / "study.png", study.plan, study.runs);
}

TEST_CASE("study: the baseline's searches name values as the configuration writes them") {
    for (const char* rate : searched_learning_rates)
        CHECK(parse_varied({"learning_rate"}, {rate})[0].values[0] == rate);
}
