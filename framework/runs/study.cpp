#include "framework/runs/study.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "framework/core/error.h"
#include "framework/core/hash.h"
#include "framework/io/atomic_file.h"
#include "framework/io/folder_lock.h"
#include "framework/program/interrupt.h"
#include "framework/program/prepare_machine.h"
#include "framework/runs/experiment.h"

namespace sieve {
namespace {

std::vector<std::string> split_values(const std::string& key, const std::string& list) {
    std::vector<std::string> values;
    std::stringstream stream(list + ",");  // so that a comma at the end leaves an empty value as well
    for (std::string value; std::getline(stream, value, ',');) {
        const size_t begin = value.find_first_not_of(' '), end = value.find_last_not_of(' ');
        if (begin == std::string::npos)
            fail_usage(fmt::format("--values '{}' for {}: holds an empty value", list, key));
        values.push_back(value.substr(begin, end - begin + 1));
    }
    return values;
}

// Values as the configuration writes them back, so that 0.001 and 1e-3 are seen to be equal.
VariedKey parse_varied_key(const std::string& name, const std::string& list) {
    ExperimentConfig config;
    const ConfigKey varied = config_key(config, name);
    if (varied.is(KeyNature::place))
        fail_usage(fmt::format("--vary {}: says what is written where, not how a model is trained", name));
    VariedKey key{.name = name};
    for (const std::string& text : split_values(name, list)) {
        set_from_text(varied.value, name, text);
        check_value(varied);
        const std::string value = text_of(varied.value);
        if (std::find(key.values.begin(), key.values.end(), value) != key.values.end())
            fail_usage(fmt::format("--values '{}' for {}: {} appears twice", list, name, value));
        key.values.push_back(value);
    }
    return key;
}

// Keys that do not concern the variant get the preset's values: studies that differ in these share the run.
ExperimentConfig own_config(ExperimentConfig config, AttentionKind variant) {
    config.model.attention = variant;
    ExperimentConfig preset;
    apply_preset(preset, config.preset);
    for (const ConfigKey& key : config_keys(config))
        if (key.saved() && !concerns(key, variant, config))
            set_from_text(key.value, key.name, config_value(preset, key.name));
    return config;
}

std::string folder_name(const StudyPlan& plan, const StudyRun& run) {
    ContentHash hash;
    hash.add(config_to_json(run.config).dump());
    std::string name = name_of(run.variant);
    for (size_t i = 0; i < plan.varied.size(); ++i) {
        if (run.values[i].empty()) continue;
        name += fmt::format("_{}={}", plan.varied[i].name, run.values[i]);
        hash.add(plan.varied[i].name).add(run.values[i]);  // such as threads, which no config.json holds
    }
    name += fmt::format("_seed={}", run.config.seed);
    for (char& c : name)
        if (!std::isalnum(static_cast<unsigned char>(c)) && std::string("=_-.").find(c) == std::string::npos)
            c = '-';
    return fmt::format("{}_{}", name.substr(0, 120), to_hex(hash.value()).substr(0, 8));
}

StudyRun make_run(const StudyPlan& plan, AttentionKind variant, const ExperimentConfig& config) {
    StudyRun run{.variant = variant, .config = own_config(config, variant)};
    ExperimentConfig copy = config;
    for (const VariedKey& varied : plan.varied) {
        const ConfigKey key = config_key(copy, varied.name);
        run.values.push_back(concerns(key, variant, config) ? text_of(key.value) : "");
    }
    run.folder = plan.folder + "/runs/" + folder_name(plan, run);
    return run;
}

// Every combination of the values, the last key fastest.
std::vector<ExperimentConfig> configurations(const StudyPlan& plan, int64_t seed) {
    std::vector<ExperimentConfig> all{plan.base};
    all.front().seed = seed;
    for (const VariedKey& key : plan.varied) {
        std::vector<ExperimentConfig> longer;
        for (const ExperimentConfig& config : all)
            for (const std::string& value : key.values) {
                longer.push_back(config);
                set_config_value(longer.back(), key.name, value);
            }
        all = std::move(longer);
    }
    return all;
}

void check_seeds(const StudyPlan& plan) {
    constexpr int64_t most = 10000;
    if (plan.seeds < 1) fail_usage(fmt::format("seeds: {}, want at least 1", plan.seeds));
    if (plan.seeds > most) fail_usage(fmt::format("seeds: {}, want at most {}", plan.seeds, most));
    ExperimentConfig last = plan.base;
    last.seed += plan.seeds - 1;
    check_value(config_key(last, "seed"));
    for (const VariedKey& key : plan.varied)
        if (key.name == "seed" && plan.seeds > 1)
            fail_usage(fmt::format(
                "--vary seed: --seeds {} trains each combination with several seeds already; use --seeds 1",
                plan.seeds));
}

void refuse_idle_keys(const StudyPlan& plan, const std::vector<StudyRun>& runs) {
    for (size_t i = 0; i < plan.varied.size(); ++i) {
        const bool used = std::any_of(runs.begin(), runs.end(),
                                      [&](const StudyRun& run) { return !run.values[i].empty(); });
        if (!used)
            fail_usage(fmt::format(
                "--vary {}: the {} model does not depend on it; use --variants both or {}",
                plan.varied[i].name, name_of(plan.variants.front()),
                name_of(plan.variants.front() == AttentionKind::classic ? AttentionKind::sparse
                                                                        : AttentionKind::classic)));
    }
}

}  // namespace

std::vector<VariedKey> parse_varied(const std::vector<std::string>& keys,
                                    const std::vector<std::string>& values) {
    if (keys.empty() && !values.empty())
        fail_usage(
            fmt::format("--values '{}' without --vary: which key takes these values?", values.front()));
    if (keys.empty()) fail_usage("what to vary? give --vary KEY --values A,B,...; --help shows all");
    if (keys.size() > values.size())
        fail_usage(fmt::format("--vary {}: has no --values A,B,...", keys[values.size()]));
    if (keys.size() < values.size())
        fail_usage(fmt::format("--values '{}' without a --vary of their own", values[keys.size()]));
    std::vector<VariedKey> varied;
    for (size_t i = 0; i < keys.size(); ++i) {
        for (const VariedKey& key : varied)
            if (key.name == keys[i]) fail_usage(fmt::format("--vary {}: given twice", keys[i]));
        varied.push_back(parse_varied_key(keys[i], values[i]));
    }
    return varied;
}

std::string label_of(const StudyPlan& plan, const StudyRun& run) {
    std::string text;
    for (size_t i = 0; i < plan.varied.size(); ++i)
        if (!run.values[i].empty()) text += fmt::format("{} = {}, ", plan.varied[i].name, run.values[i]);
    return text + fmt::format("seed {}", run.config.seed);
}

std::vector<StudyRun> runs_of(const StudyPlan& plan) {
    check_seeds(plan);
    std::vector<StudyRun> runs;
    std::set<std::string> folders;
    const auto add = [&](StudyRun run) {
        if (folders.insert(run.folder).second) runs.push_back(std::move(run));
    };
    for (int64_t s = 0; s < plan.seeds; ++s)
        for (const ExperimentConfig& config : configurations(plan, plan.base.seed + s))
            for (const AttentionKind variant : plan.variants) {
                StudyRun run = make_run(plan, variant, config);
                if (variant == AttentionKind::sparse && config.sparse_init == SparseInit::classic) {
                    const StudyRun source = make_run(plan, AttentionKind::classic, config);
                    run.classic_model = source.folder + "/final_model.pt";
                    add(source);
                }
                add(std::move(run));
            }
    refuse_idle_keys(plan, runs);
    return runs;
}

StudyOutcome run_study(const StudyPlan& plan) {
    StudyOutcome outcome{.runs = runs_of(plan)};
    make_folder(plan.folder);
    const FolderLock lock(plan.folder);
    catch_interrupts(finishing_step);
    outcome.interrupted = !train_runs({.runs = outcome.runs,
                                       .label = [&](const StudyRun& run) { return label_of(plan, run); },
                                       .after_run = [&] { write_study_files(plan, outcome.runs); },
                                       .reuse = plan.reuse,
                                       .seconds_after = plan.seconds_after},
                                      plan.base);
    for (const StudyRun& run : outcome.runs) outcome.failed += run.status == RunStatus::failed;
    write_study_files(plan, outcome.runs);
    write_study_figure(plan.folder + "/study.png", plan, outcome.runs);
    return outcome;
}

int run_ablation(const StudyPlan& plan) {
    runs_of(plan);  // refuses bad plans, and the next line bad folders, before any work
    make_folder(plan.folder);
    ExperimentConfig shown = plan.base;
    shown.results_dir = plan.folder;
    const Device device = prepare_machine(shown);
    const bool sparse =
        std::find(plan.variants.begin(), plan.variants.end(), AttentionKind::sparse) != plan.variants.end();
    print_header(plan.title, shown, load_data(shown), device, sparse);
    const StudyOutcome outcome = run_study(plan);
    print_study(plan, outcome.runs);
    if (outcome.interrupted) {
        fmt::print("\ninterrupted; the state is saved. To go on: the same command again\n");
        return interrupted();
    }
    fmt::print("results are in {}/\n", plan.folder);
    return outcome.failed ? static_cast<int>(ErrorKind::failure) : 0;
}

}  // namespace sieve
