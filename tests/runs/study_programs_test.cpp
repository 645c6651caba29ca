// ablation_study and exp3 as a user meets them.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

// A program with the flags of a model that trains in a moment.
std::string command_of(const std::string& program, const std::string& results, const std::string& more) {
    return source_dir() + "/" + program +
           " --preset small --d_model 32 --n_heads 2 --n_layers 1 --d_ff 32 --max_seq_len 24 --batch_size 4 "
           "--indexer_dim 8 --sparse_top_k 8 --vocab_size 300 --max_tokens 20000 --classic_steps 12 "
           "--warmup_steps 3 --sparse_steps 12 --eval_every 6 --eval_batches 1 --checkpoint_every 4 "
           "--threads 1 "
           "--device cpu --data " +
           source_dir() + "/data/excerpt --cache_dir " + results + "-cache --results_dir " + results + " " +
           more;
}

std::string ablation(const std::string& results, const std::string& more) {
    return command_of("tools/ablation_study", results, more);
}

std::string exp3(const std::string& results, const std::string& more = "") {
    return command_of("experiments/exp3", results, "--search_steps 6 " + more);
}

// Runs and checks the exit code and that the output holds `text`; returns the output.
std::string check_run(const std::string& command, int status, const std::string& text) {
    std::string output;
    INFO(command);
    const int got = run_command(command, output);
    INFO(output);
    CHECK(got == status);
    CHECK(output.find(text) != std::string::npos);
    return output;
}

// Sends the signal as soon as a file that fits the pattern appears. Returns the command's exit status.
int end_when(const std::string& pattern, const std::string& signal, const std::string& command) {
    std::string output;
    const int status = run_command(command + " > /dev/null 2>&1 & pid=$!\n" + "while ! ls " + pattern +
                                       " > /dev/null 2>&1 && kill -0 $pid; do sleep 0.01; done\n" +
                                       "kill -s " + signal + " $pid; wait $pid",
                                   output);
    INFO(command << "\n" << output);
    CHECK((status == 130 || status == 137));
    return status;
}

std::vector<double> losses_in(const std::string& study) {
    std::vector<double> losses;
    const auto json = read_json(study);
    for (const auto& run : json.at("runs")) losses.push_back(run.at("val_loss"));
    return losses;
}

}  // namespace

TEST_CASE("ablation_study: trains every value and seed, and writes the table, the files and the figure") {
    const TemporaryFolder folder;
    const std::string results = folder / "results", study = results + "/ablation/indexer_heads";
    const std::string vary = "--vary indexer_heads --values 1,2 --variants both --seeds 2";
    const std::string output = check_run(ablation(results, vary), 0, "6 runs, of which 0 finished earlier");
    CHECK(output.find("mean ± standard deviation over the seeds") != std::string::npos);
    for (const char* file : {"study.json", "summary.csv", "runs.csv", "study.png"})
        CHECK_MESSAGE(fs::exists(study + "/" + file), file);
    const auto json = read_json(study + "/study.json");
    REQUIRE(json.at("runs").size() == 6);
    for (const auto& run : json.at("runs")) {
        CHECK(run.at("status") == "finished");
        const std::string run_folder = run.at("folder");
        for (const char* file : {"training_results.json", "final_model.pt", "config.json", "metrics.jsonl"})
            CHECK_MESSAGE(fs::exists(run_folder + "/" + file), file);
        CHECK(read_json(run_folder + "/config.json").at("seed") == run.at("seed"));
    }
    REQUIRE(json.at("combinations").size() == 3);
    CHECK(json.at("combinations")[1].at("indexer_recall").at("std").is_number());

    // Nothing is trained twice, and another value joins what is there.
    check_run(ablation(results, vary), 0, "6 runs, of which 6 finished earlier");
    check_run(ablation(results, "--vary indexer_heads --values 4,2 --seeds 2"), 0,
              "4 runs, of which 2 finished earlier");
}

TEST_CASE("ablation_study: a run that fails is noted, the others are trained, the exit code is 1") {
    const TemporaryFolder folder;
    const std::string results = folder / "results";
    check_run(ablation(results, "--vary d_model --values 31,32 --seeds 1"), 1, "not divisible by n_heads");
    const auto runs = read_json(results + "/ablation/d_model/study.json").at("runs");
    CHECK(runs[0].at("status") == "failed");
    CHECK(runs[0].at("error") == "bad combination");
    CHECK(runs[1].at("status") == "finished");

    check_run(ablation(results, "--vary learning_rate --values 1e30,1e-3 --seeds 1 --variants classic"), 1,
              "diverged");
    const auto rates = read_json(results + "/ablation/learning_rate/study.json").at("runs");
    CHECK(rates[0].at("error") == "diverged");
    CHECK(rates[1].at("status") == "finished");

    check_run(ablation(results, "--vary batch_size --values 640,4 --seeds 2 --memory_limit_mb 3"), 1,
              "out of memory");
    const auto sizes = read_json(results + "/ablation/batch_size/study.json").at("runs");
    CHECK(sizes[0].at("error") == "out of memory");
    CHECK(sizes[1].at("status") == "finished");
}

TEST_CASE("ablation_study: --sparse_init classic trains the classic model that it starts from") {
    const TemporaryFolder folder;
    const std::string results = folder / "results";
    check_run(ablation(results, "--vary sparse_init --values scratch,classic --seeds 1"), 0,
              "run 2 of 3: classic model");
    const auto runs = read_json(results + "/ablation/sparse_init/study.json").at("runs");
    CHECK(runs[0].at("val_loss") != runs[2].at("val_loss"));
}

TEST_CASE("ablation_study: interrupted and killed, the same command goes on and ends with the same numbers") {
    const TemporaryFolder folder;
    const std::string vary =
        "--vary sparse_top_k --values 4,8 --seeds 2 --sparse_steps 200 --eval_every 100 --checkpoint_every "
        "50 --name s";
    check_run(ablation(folder / "whole", vary), 0, "results are in");
    for (const char* signal : {"INT", "KILL"}) {
        const std::string results = folder / signal, study = results + "/ablation/s";
        const std::string third_run = study + "/runs/*=4_seed=43*/unfinished/checkpoint.pt";
        CHECK(end_when(third_run, signal, ablation(results, vary)) == (signal[0] == 'I' ? 130 : 137));
        const auto runs = read_json(study + "/study.json").at("runs");  // what was finished is there already
        CHECK(runs[1].at("status") == "finished");
        CHECK(runs[2].at("status") == "not finished");
        check_run(ablation(results, vary), 0, "4 runs, of which 2 finished earlier");
        CHECK(losses_in(study + "/study.json") == losses_in(folder / "whole/ablation/s/study.json"));
    }
}

TEST_CASE("ablation_study: bad input gets one clear line and the documented exit code") {
    const TemporaryFolder folder;
    const std::string results = folder / "results";
    check_run(ablation(results, "--vary indexer_head --values 2"), 2, "did you mean indexer_heads?");
    check_run(ablation(results, "--vary indexer_heads --values 2,,4"), 2, "empty value");
    check_run(ablation(results, "--vary indexer_heads --values 2,2"), 2, "appears twice");
    check_run(ablation(results, "--vary indexer_heads --values two"), 2, "want a whole number");
    check_run(ablation(results, "--values 2,4"), 2, "without --vary");
    check_run(ablation(results, "--vary indexer_heads"), 2, "has no --values");
    check_run(ablation(results, ""), 2, "what to vary?");
    check_run(ablation(results, "--vary indexer_heads --values 2 --seeds 0"), 2, "seeds: 0, want at least 1");
    check_run(ablation(results, "--vary indexer_heads --values 2 --seeds few"), 2, "seeds");
    check_run(ablation(results, "--vary indexer_heads --values 2 --variants all"), 2, "'all', want sparse");
    check_run(ablation(results, "--vray indexer_heads --values 2"), 2, "did you mean --vary?");
    check_run(ablation(results, "--vary indexer_heads --values 2 --data /nowhere"), 3, "/nowhere");
    CHECK(!fs::exists(results + "/ablation/indexer_heads/runs"));
    write_file_atomic(folder / "file", "x");
    check_run(ablation(folder / "file", "--vary indexer_heads --values 2"), 3, "file/ablation");
    check_run(source_dir() + "/tools/ablation_study --help", 0, "Exit codes");
}

TEST_CASE("exp3: searches, trains at the best setting, and exp4 compares itself with it") {
    const TemporaryFolder folder;
    const std::string results = folder / "results", exp3_folder = results + "/exp3";
    const std::string exp4 = command_of("experiments/exp4", results, "");
    check_run(exp4, 0, "exp3 was not run");
    check_run(exp3(results), 0, "results are in");
    for (const char* file : {"training_results.json", "training_curves.png", "final_model.pt", "config.json",
                             "search.json", "search.png", "metrics.jsonl"})
        CHECK_MESSAGE(fs::exists(exp3_folder + "/" + file), file);
    const auto search = read_json(exp3_folder + "/search.json");
    const auto& rates = search.at("learning_rate").at("runs");
    REQUIRE(rates.size() == 4);
    REQUIRE(search.at("experts").at("runs").size() == 6);
    const auto best = std::min_element(rates.begin(), rates.end(), [](const auto& a, const auto& b) {
        return a.at("val_loss") < b.at("val_loss");
    });
    CHECK(search.at("chosen").at("learning_rate") == best->at("values").at("learning_rate"));
    const auto config = read_json(exp3_folder + "/config.json");
    CHECK(config.at("classic_steps") == 12);
    for (const char* key : {"learning_rate", "num_experts", "expert_top_k"})
        CHECK_MESSAGE(config.at(key) == search.at("chosen").at(key), key);
    check_run(exp3(results, "--resume"), 0, "it was finished by an earlier run and is kept");

    check_run(exp4 + " --stages compare", 0, "that of experiment 3");
    const auto metrics = read_json(results + "/comparison/comparison_metrics.json");
    CHECK(metrics.at("criteria_not_judged").size() == 2);  // the sparsities
    const double ratio =
        read_json(results + "/sparse/training_results.json").at("val_loss").back().get<double>() /
        read_json(exp3_folder + "/training_results.json").at("val_loss").back().get<double>();
    CHECK(metrics.at("success_criteria").back().at("measured") == ratio);
    check_run(exp4 + " --protocol overlap", 0, "exp3 was run with protocol = heldout");
    write_file_atomic(exp3_folder + "/manifest.json", "{");
    check_run(exp4 + " --stages compare", 0, "manifest.json:1:2");
}

TEST_CASE("exp3: interrupted and resumed, it ends with the bits of an undisturbed run") {
    const TemporaryFolder folder;
    const std::string longer = "--search_steps 20 --classic_steps 200 --eval_every 100 --checkpoint_every 50";
    check_run(exp3(folder / "whole", longer), 0, "results are in");
    const std::string results = folder / "stopped", stopped = exp3(results, longer);
    end_when(results + "/exp3/search/experts/runs/*=8*/unfinished/metrics.jsonl", "INT", stopped);
    end_when(results + "/exp3/unfinished/checkpoint.pt", "INT", stopped + " --resume");
    check_run(stopped + " --resume", 0, "resuming classic at step");
    CHECK(read_json(folder / "whole/exp3/training_results.json").at("step_loss") ==
          read_json(results + "/exp3/training_results.json").at("step_loss"));
}

TEST_CASE("exp3: usage errors, and a run without a search") {
    const TemporaryFolder folder;
    const std::string results = folder / "results";
    check_run(exp3(results, "--search_steps -1"), 2, "search_steps: -1, want at least 0");
    check_run(exp3(results, "--learning_rates 3"), 2, "did you mean --learning_rate?");
    check_run(exp3(results, "--search_steps 0 --learning_rate 2e-3"), 0,
              "learning_rate 0.002, 2 experts, top 1");
    CHECK(!fs::exists(results + "/exp3/search.json"));
    CHECK(read_json(results + "/exp3/config.json").at("learning_rate") == 2e-3);
    check_run(source_dir() + "/experiments/exp3 --help", 0, "Exit codes");
}
