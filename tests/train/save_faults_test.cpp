// A training whose files cannot be written at some moment: a full disk, a broken one.
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/train/checkpoint.h"
#include "framework/train/metrics_log.h"
#include "framework/train/trainer.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"
#include "tests/support/tiny_training.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

ExperimentConfig short_run() {
    ExperimentConfig config = tiny_config(AttentionKind::sparse);
    config.warmup_steps = 4, config.sparse_steps = 8;
    config.eval_every = 4, config.eval_batches = 1, config.checkpoint_every = 3;
    return config;
}

NamedTensors train_in(const std::string& folder, const ExperimentConfig& config, bool resume) {
    const Transformer model(config.model, ParameterInit{});
    TrainingHistory history;
    train({.config = config,
           .data = tiny_data(),
           .model = model,
           .folder = folder,
           .resume_from = resume ? folder : "",
           .estimated_step_seconds = {0, 0},
           .quiet = true},
          history);
    return model.state();
}

int64_t count_of(const std::string& words, const std::string& text) {
    int64_t count = 0;
    for (size_t at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) ++count;
    return count;
}

bool has_checkpoint(const std::string& folder) {
    return fs::exists(folder + "/checkpoint.pt") || fs::exists(folder + "/checkpoint_previous.pt");
}

// Lets step n of the files fail; false when the run has fewer. What the error said is added to `messages`.
bool check_fault(const FileFault& fault, int64_t n, const ExperimentConfig& config, const NamedTensors& want,
                 std::string& messages) {
    const TemporaryFolder place;
    const std::string folder = place.path().string();
    bool failed = false;
    fail_file_step_after(n, fault);
    try {
        train_in(folder, config, false);
    } catch (const Error& e) {
        failed = true;
        messages += std::string(e.what()) + "\n";
        CHECK(e.kind() == ErrorKind::bad_file);
        CHECK(std::string(e.what()).find(folder) == 0);
        CHECK(std::string(e.what()).find(std::strerror(fault.error)) != std::string::npos);
    }
    fail_file_step_after(0);
    if (!failed) return false;
    const bool saved = has_checkpoint(folder);
    if (saved) {
        const Checkpoint checkpoint = read_last_checkpoint(folder);
        const auto done = static_cast<int64_t>(checkpoint.history["warmup_loss"].size() +
                                               checkpoint.history["step_loss"].size());
        CHECK(static_cast<int64_t>(read_metrics(folder).size()) - done <= config.checkpoint_every);
    }
    for (const std::string& name : names_in(folder))
        CHECK_MESSAGE(name.find(".tmp") == std::string::npos, name);
    const NamedTensors got = train_in(folder, config, saved);
    for (size_t i = 0; i < want.size(); ++i) CHECK(bit_identical(got[i].tensor, want[i].tensor));
    return true;
}

}  // namespace

TEST_CASE(
    "training: whichever file step fails, the last checkpoint loads and the run goes on with the same bits") {
    const ExperimentConfig config = short_run();
    const TemporaryFolder whole;
    const NamedTensors want = train_in(whole.path().string(), config, false);
    struct {
        const char* name;
        FileFault fault;
    } const faults[] = {
        {"open", {FileStep::open, EIO}},          {"write", {FileStep::write, EIO}},
        {"full disk", {FileStep::write, ENOSPC}}, {"torn write", {FileStep::write, ENOSPC, true}},
        {"fsync", {FileStep::fsync, EIO}},        {"close", {FileStep::close, EIO}},
        {"rename", {FileStep::rename, ENOSPC}}};
    for (const auto& [name, fault] : faults) {
        int64_t failures = 0;
        const std::string what = name;
        std::string messages;
        const int64_t step = full_tests() || fault.step == FileStep::fsync ? 1
                             : fault.step == FileStep::write               ? 17
                                                                           : 4;
        for (int64_t n = 1; check_fault(fault, n, config, want, messages); n += step) {
            INFO(what << ", number " << n);
            ++failures;
        }
        CHECK(failures > 0);
        // Steps that a checkpoint counts as done are on the disk before it is: every one waits for both logs.
        if (fault.step == FileStep::fsync)
            for (const char* log : {"/metrics.jsonl: ", "/metrics.csv: "})
                CHECK_MESSAGE(count_of(log, messages) >= 5, messages);
        MESSAGE(what << ": " << failures << " failures");
    }
}
