// A training that is killed or interrupted at random instants, and goes on.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "framework/core/rng.h"
#include "framework/io/json_file.h"
#include "framework/io/pt.h"
#include "framework/train/checkpoint.h"
#include "framework/train/metrics_log.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

constexpr int64_t checkpoint_every = 5;

std::string command(const std::string& results, const std::string& more) {
    const std::string root = testing::source_dir();
    return root +
           "/experiments/exp4 --preset small --d_model 16 --n_heads 2 --n_layers 1 --d_ff 16 --max_seq_len "
           "16 "
           "--batch_size 2 --indexer_heads 2 --indexer_dim 8 --sparse_top_k 8 --vocab_size 300 --max_tokens "
           "20000 "
           "--warmup_steps 20 --sparse_steps 150 --eval_every 20 --eval_batches 1 --stages sparse --device "
           "cpu "
           "--threads 1 --checkpoint_every " +
           std::to_string(checkpoint_every) + " --data " + root + "/data/excerpt --cache_dir " + results +
           "-cache --results_dir " + results + " " + more;
}

// A number in [0, 1) for each n.
double random_at(uint64_t n) {
    return philox({13, 1}, n).v[0] / 4294967296.0;
}

// The steps that the unfinished run logged, and those that its checkpoint has.
void check_at_most_one_interval_lost(const std::string& variant) {
    const std::string work = variant + "/unfinished";
    if (fs::exists(work + "/complete.json")) return;  // nothing is: its files are on the way to their places
    if (!fs::exists(work + "/checkpoint.pt") && !fs::exists(work + "/checkpoint_previous.pt")) {
        CHECK(read_metrics(work).size() <= checkpoint_every + 1);
        return;
    }
    const Checkpoint checkpoint = read_last_checkpoint(work);  // loads, whatever happened
    const auto done = static_cast<int64_t>(checkpoint.history["warmup_loss"].size() +
                                           checkpoint.history["step_loss"].size());
    CHECK(static_cast<int64_t>(read_metrics(work).size()) - done <= checkpoint_every);
}

void check_same_weights(const std::string& a, const std::string& b) {
    const PtFile one = read_pt(a), other = read_pt(b);
    REQUIRE(one.tensors.size() == other.tensors.size());
    for (size_t i = 0; i < one.tensors.size(); ++i)
        CHECK(bit_identical(one.tensors[i].tensor, other.tensors[i].tensor));
}

struct Blows {
    int64_t ended = 0, runs = 0;
};

// Runs until `wanted` of them were ended by the signal, each resumed until it is complete.
Blows end_and_resume(const std::string& signal, int64_t wanted, int ended) {
    const TemporaryFolder folder;
    const std::string whole = folder / "whole";
    std::string output;
    const auto start = std::chrono::steady_clock::now();
    REQUIRE_MESSAGE(run_command(command(whole, ""), output) == 0, output);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    Blows blows;
    for (uint64_t n = 0; blows.ended < wanted; ++blows.runs) {
        const std::string results = folder / ("run" + std::to_string(blows.runs));
        while (true) {
            const double after = 0.02 + seconds * random_at(n++);
            const int status = run_command(fmt::format("timeout --preserve-status -s {} {:.3f} {}", signal,
                                                       after, command(results, "--resume")),
                                           output);
            INFO(output);
            if (status == 0) break;
            REQUIRE(status == ended);
            ++blows.ended;
            check_at_most_one_interval_lost(results + "/sparse");
            if (blows.ended >= wanted) REQUIRE(run_command(command(results, "--resume"), output) == 0);
            if (blows.ended >= wanted) break;
        }
        check_same_weights(whole + "/sparse/final_model.pt", results + "/sparse/final_model.pt");
        CHECK(read_json(whole + "/sparse/training_results.json").at("step_loss") ==
              read_json(results + "/sparse/training_results.json").at("step_loss"));
        CHECK(!fs::exists(results + "/sparse/unfinished"));
        for (const auto& entry : fs::recursive_directory_iterator(results))
            CHECK_MESSAGE(entry.path().string().find(".tmp") == std::string::npos, entry.path());
    }
    return blows;
}

}  // namespace

TEST_CASE(
    "crashes: killed at random instants, a run loses one interval at most and ends with the same bits") {
    const Blows blows = end_and_resume("KILL", full_tests() ? 200 : 8, 137);
    MESSAGE(blows.ended << " kills over " << blows.runs << " runs");
}

TEST_CASE("crashes: SIGINT and SIGTERM at random instants save the state and end with the documented code") {
    for (const auto& [name, status] : {std::pair{"INT", 130}, std::pair{"TERM", 143}}) {
        const Blows blows = end_and_resume(name, full_tests() ? 25 : 3, status);
        MESSAGE(blows.ended << " times SIG" << std::string(name) << " over " << blows.runs << " runs");
    }
}
