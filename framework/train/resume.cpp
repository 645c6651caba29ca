#include "framework/train/resume.h"

#include <fmt/format.h>

#include <algorithm>

#include "framework/core/error.h"
#include "framework/train/checkpoint.h"
#include "framework/train/trainer.h"

namespace sieve {
namespace {

// Keys that may have other values when a run goes on after `done` steps of `reached`.
bool may_change(const Difference& d, const ExperimentConfig& config, StageKind reached, int64_t done) {
    for (const Stage& stage : stages_of(config))
        if (d.key == steps_key(stage.kind))
            return stage.kind > reached || (stage.kind == reached && stage.steps >= done);
    return false;
}

[[noreturn]] void refuse(const std::string& folder, const std::vector<Difference>& differences,
                         const std::string& reached) {
    std::string text;
    for (const Difference& d : differences)
        text += fmt::format("{}{} {} (now {})", text.empty() ? "" : ", ", d.key, d.was, d.is);
    fail_usage(fmt::format(
        "{}: --resume: this run {} with {}; give the old values to go on with it, another --results_dir "
        "to keep both, or leave out --resume to train anew",
        folder, reached, text));
}

}  // namespace

Continuation plan_resume(const std::string& folder, const ExperimentConfig& config,
                         const DataFingerprint& data) {
    const AttentionKind variant = config.model.attention;
    const auto differences_to = [&](const Manifest& earlier) {
        std::vector<Difference> all = config_differences(earlier.config, config, variant);
        for (Difference& d : data_differences(earlier.fingerprint, data)) all.push_back(std::move(d));
        return all;
    };
    const std::optional<Manifest> finished = finished_run(folder);
    if (finished && differences_to(*finished).empty()) {
        check_final_model(folder + "/final_model.pt", *finished);
        return {.kind = Continuation::Kind::keep};
    }
    const std::optional<Manifest> unfinished = unfinished_run(folder);
    if (!finished && !unfinished) return {};
    const std::string from = unfinished ? unfinished_folder(folder) : folder;
    const Checkpoint checkpoint = read_last_checkpoint(from);
    std::vector<Difference> differences = differences_to(unfinished ? *unfinished : *finished);
    std::erase_if(differences, [&](const Difference& d) {
        return may_change(d, config, checkpoint.stage, checkpoint.step);
    });
    if (!differences.empty())
        refuse(
            from, differences,
            unfinished ? fmt::format("stopped at step {}", checkpoint.step) : std::string("was completed"));
    return {.kind = Continuation::Kind::go_on, .from = from};
}

}  // namespace sieve
