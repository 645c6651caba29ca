// ablation_study: trains a model with several values of some keys of its configuration, each with several
// seeds, and compares them.
#include <fmt/format.h>

#include "framework/core/error.h"
#include "framework/program/interrupt.h"
#include "framework/runs/experiment.h"
#include "framework/runs/study.h"

namespace sieve {
namespace {

std::vector<AttentionKind> parse_variants(const std::string& name) {
    if (name == "both") return {AttentionKind::classic, AttentionKind::sparse};
    if (const auto variant = value_named<AttentionKind>(name)) return {*variant};
    fail_usage(fmt::format("variants: '{}', want sparse, classic or both", name));
}

std::string default_name(const std::vector<std::string>& keys) {
    std::string name;
    for (const std::string& key : keys) name += (name.empty() ? "" : "-") + key;
    return name;
}

int main_of(int argc, char** argv) {
    std::vector<std::string> keys, values;
    std::string variants = "sparse", name;
    int64_t seeds = 3;
    const ExperimentCommand command = parse_experiment(
        argc, argv,
        "Trains a model with each of several values of one key of its configuration, or with each "
        "combination "
        "of several keys' values, and compares quality, speed and memory over seeds.\n"
        "  ablation_study --vary indexer_heads --values 2,4,8 --preset small\n"
        "Finished runs are kept and interrupted ones go on when the same command is given again.",
        {{"vary", "a key to vary; may be given several times", &keys},
         {"values", "its values, separated by commas; once for each --vary", &values},
         {"seeds", "runs of each combination, with the seeds seed, seed + 1, ...", &seeds},
         {"variants", "what to train: sparse, classic or both", &variants},
         {"name", "of the study; its folder is results_dir/ablation/NAME (default: the varied keys)",
          &name}});
    if (command.done) return 0;
    if (command.print_config) {
        fmt::print("{}", config_to_toml(command.config));
        return 0;
    }
    StudyPlan plan{.base = command.config,
                   .varied = parse_varied(keys, values),
                   .variants = parse_variants(variants),
                   .seeds = seeds};
    if (name.empty()) name = default_name(keys);
    plan.folder = command.config.results_dir + "/ablation/" + name;
    plan.title = "Ablation study: " + name;
    return run_ablation(plan);
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    return sieve::run_program("ablation_study", sieve::experiment_flags(),
                              [&] { return sieve::main_of(argc, argv); });
}
