#include "framework/train/experiment.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/data/dataset.h"
#include "framework/io/json_file.h"
#include "framework/train/checkpoint.h"
#include "framework/train/device.h"
#include "framework/train/inspect.h"
#include "framework/train/interrupt.h"
#include "framework/train/results.h"
#include "framework/train/trainer.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

bool runs(const ExperimentConfig& config, const std::string& stage) {
    return ("," + config.stages + ",").find("," + stage + ",") != std::string::npos;
}

int64_t count_elements(const std::vector<Parameter>& parameters) {
    int64_t n = 0;
    for (const Parameter& p : parameters) n += p.tensor.numel();
    return n;
}

std::unique_ptr<Transformer> make_model(const ExperimentConfig& c, Device device) {
    return std::make_unique<Transformer>(
        c.model,
        ParameterInit{.seed = static_cast<uint64_t>(c.seed), .std = c.model.init_std, .device = device});
}

// One variant that is still to be trained, with what trial steps say about its cost.
struct PlannedVariant {
    ExperimentConfig config;
    std::vector<double> step_seconds;  // per stage
    int64_t trial_bytes = 0;
    double seconds = 0;  // of the whole variant, evaluation included
};

bool is_finished(const ResultPaths& paths, const ExperimentConfig& config) {
    const std::string folder = paths.variant(config.model.attention);
    if (!fs::exists(folder + "/final_model.pt") || !fs::exists(folder + "/training_results.json"))
        return false;
    if (fs::exists(folder + "/checkpoint.pt")) return false;
    return read_final_model(folder + "/final_model.pt").config.model.attention == config.model.attention &&
           read_json(folder + "/config.json") == config_to_json(config);
}

void estimate(PlannedVariant& variant, const Dataset& data, Device device) {
    const ExperimentConfig& c = variant.config;
    reset_peak_memory(device);
    const int64_t before = memory_stats(device).live_bytes;
    const auto batches =
        static_cast<double>(c.eval_batches == 0 ? data.validation_batches()
                                                : std::min(c.eval_batches, data.validation_batches()));
    for (const Stage& stage : stages_of(c)) {
        const double step = measure_step_seconds(c, stage, data, device);
        variant.step_seconds.push_back(step);
        // An evaluation batch is a forward pass: about a third of a step.
        const double evaluations =
            stage.kind == StageKind::warmup ? 0 : std::ceil(static_cast<double>(stage.steps) / c.eval_every);
        variant.seconds += step * (static_cast<double>(stage.steps) + evaluations * batches / 3);
    }
    variant.trial_bytes = memory_stats(device).peak_bytes - before;
}

void print_header(const ExperimentConfig& c, const Dataset& data, Device device) {
    ExperimentConfig sparse = c;
    sparse.model.attention = "sparse";
    const auto model = make_model(sparse, Device{});
    const ModelConfig& m = c.model;
    fmt::print("Sieve experiment 4: classic against sparse attention ({} preset, seed {})\n", c.preset,
               c.seed);
    fmt::print("  device      {}\n", describe(device));
    fmt::print("  model       d_model {}, {} heads, {} layers, {} experts (top {}), d_ff {}, length {}\n",
               m.d_model, m.n_heads, m.n_layers, m.num_experts, m.expert_top_k, m.d_ff, m.max_seq_len);
    fmt::print("  indexer     {}, {} heads of {}, top {} tokens\n", m.indexer, m.indexer_heads, m.indexer_dim,
               m.sparse_top_k);
    fmt::print("  parameters  {} (classic), + {} in the indexers (sparse)\n",
               human_count(count_elements(model->main_parameters())),
               human_count(count_elements(model->indexer_parameters())));
    fmt::print("  data        {}\n", data.source());
    fmt::print("  tokens      {}\n", data.token_line());
    fmt::print("  protocol    {}\n", data.protocol());
    fmt::print("  results     {}/\n", c.results_dir);
}

// Trains one variant and writes its folder. The trained model's file appears last.
TrainingOutcome run_variant(const PlannedVariant& variant, const Dataset& data, const ResultPaths& paths,
                            Device device, bool resume, double seconds_after) {
    const ExperimentConfig& c = variant.config;
    const std::string folder = paths.variant(c.model.attention);
    release_cached_memory(device);
    reset_peak_memory(device);
    const auto model = make_model(c, device);
    const bool from_checkpoint = resume && fs::exists(folder + "/checkpoint.pt");
    if (c.model.is_sparse() && c.sparse_init == "classic" && !from_checkpoint) {
        const std::string source = paths.variant("classic") + "/final_model.pt";
        if (!fs::exists(source))
            fail_bad_file(
                fmt::format("{}: not found; --sparse_init classic needs the trained classic model, so run "
                            "--stages classic first",
                            source));
        std::vector<std::pair<std::string, Tensor>> weights;
        for (const Parameter& p : read_final_model(source).model->state())
            weights.emplace_back(p.name, p.tensor);
        model->load_state(weights, source, true);
    }
    fmt::print("\n{} model\n", c.model.is_sparse() ? "Sparse" : "Classic");
    TrainingHistory history;
    const TrainingOutcome outcome = train({.config = c,
                                           .data = data,
                                           .model = *model,
                                           .folder = folder,
                                           .seconds_after = seconds_after,
                                           .estimated_step_seconds = variant.step_seconds},
                                          resume, history);
    if (outcome == TrainingOutcome::interrupted) return outcome;
    write_json_atomic(folder + "/training_results.json",
                      training_results(history, c, data.description(), thread_count()));
    write_json_atomic(folder + "/config.json", config_to_json(c));
    write_training_curves(folder + "/training_curves.png", history, c);
    write_final_model(folder + "/final_model.pt", *model, c, data.tokenizer().to_json());
    fs::remove(folder + "/checkpoint.pt");
    return outcome;
}

std::vector<PlannedVariant> plan(const ExperimentCommand& command, const ResultPaths& paths,
                                 const Dataset& data, Device device) {
    std::vector<PlannedVariant> variants;
    for (const char* attention : {"classic", "sparse"}) {
        if (!runs(command.config, attention)) continue;
        PlannedVariant variant{.config = command.config};
        variant.config.model.attention = attention;
        if (command.resume && is_finished(paths, variant.config)) {
            fmt::print("  {} was finished by an earlier run and is kept\n", attention);
            continue;
        }
        estimate(variant, data, device);
        variants.push_back(std::move(variant));
    }
    return variants;
}

void print_plan(const std::vector<PlannedVariant>& variants) {
    double total = 0;
    int64_t bytes = 0;
    for (const PlannedVariant& v : variants) {
        const std::vector<Stage> stages = stages_of(v.config);
        for (size_t s = 0; s < stages.size(); ++s)
            fmt::print("  {:<10}  {} steps of about {:.0f} ms\n", name_of(stages[s].kind), stages[s].steps,
                       1000 * v.step_seconds[s]);
        total += v.seconds;
        bytes = std::max(bytes, v.trial_bytes);
    }
    fmt::print("  memory      about {} (measured in trial steps)\n", human_bytes(bytes));
    fmt::print("  total time  about {} (from trial steps, evaluation included)\n", human_time(total));
    std::fflush(stdout);
}

void warn_about_earlier_results(const ExperimentCommand& command, const ResultPaths& paths) {
    if (command.resume) return;
    for (const char* attention : {"classic", "sparse"}) {
        const std::string folder = paths.variant(attention);
        if (!runs(command.config, attention)) continue;
        if (fs::exists(folder + "/checkpoint.pt"))
            fmt::print(stderr,
                       "{}: an interrupted run is here; --resume would continue it, this run replaces it\n",
                       folder);
        else if (fs::exists(folder + "/final_model.pt"))
            fmt::print(stderr, "{}: holds an earlier run, whose files are replaced as this one finishes\n",
                       folder);
    }
}

}  // namespace

DataConfig data_config(const ExperimentConfig& c) {
    return {.data = c.data,
            .tokenizer = c.tokenizer,
            .vocab_size = static_cast<int>(c.model.vocab_size),
            .max_tokens = c.max_tokens,
            .num_documents = c.num_documents,
            .protocol = c.protocol == "overlap" ? Protocol::overlap : Protocol::heldout,
            .val_fraction = c.val_fraction,
            .cache_dir = c.cache_dir,
            .seed = static_cast<uint64_t>(c.seed),
            .seq_len = c.model.max_seq_len,
            .batch_size = c.batch_size};
}

int run_experiment(const ExperimentCommand& given) {
    ExperimentCommand command = given;
    ExperimentConfig& config = command.config;
    const Device device = choose_device(config);
    if (config.threads) set_thread_count(static_cast<int>(config.threads));
    set_memory_limit(config.memory_limit_mb << 20, device);
    const Dataset data =
        load_dataset(data_config(config), [](const std::string& note) { fmt::print(stderr, "{}\n", note); });
    config.model.vocab_size = data.tokenizer().vocab_size();  // a given tokenizer brings its own
    const ResultPaths paths(config.results_dir);
    paths.make_folders();
    warn_about_earlier_results(command, paths);
    print_header(config, data, device);
    const std::vector<PlannedVariant> variants = plan(command, paths, data, device);
    if (!variants.empty()) print_plan(variants);

    catch_interrupts();
    for (size_t i = 0; i < variants.size(); ++i) {
        double after = 0;
        for (size_t j = i + 1; j < variants.size(); ++j) after += variants[j].seconds;
        if (run_variant(variants[i], data, paths, device, command.resume, after) == TrainingOutcome::finished)
            continue;
        fmt::print("\ninterrupted; the state is saved. To go on: the same command with --resume\n");
        return interrupted();
    }
    if (runs(config, "compare")) {
        write_comparison(paths, config);
        const FinalModel sparse = read_final_model(paths.variant("sparse") + "/final_model.pt");
        write_attention_pictures(*sparse.model, data, {0}, 0, paths.comparison());
        fmt::print("results are in {}/\n", config.results_dir);
    }
    return 0;
}

}  // namespace sieve
