#include "framework/runs/experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/data/dataset.h"
#include "framework/io/atomic_file.h"
#include "framework/io/folder_lock.h"
#include "framework/io/json_file.h"
#include "framework/measure/process_memory.h"
#include "framework/program/device.h"
#include "framework/program/interrupt.h"
#include "framework/program/prepare_machine.h"
#include "framework/program/progress.h"
#include "framework/report/inspect.h"
#include "framework/report/report.h"
#include "framework/report/results.h"
#include "framework/runs/setting_notes.h"
#include "framework/train/checkpoint.h"
#include "framework/train/hf_folder.h"
#include "framework/train/model_file.h"
#include "framework/train/resume.h"
#include "framework/train/run_folder.h"
#include "framework/train/trainer.h"
#include "models/parameter_count.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

bool runs(const ExperimentConfig& config, ExperimentStage stage) {
    return std::find(config.stages.begin(), config.stages.end(), stage) != config.stages.end();
}

bool trains(const ExperimentConfig& config, AttentionKind attention) {
    return runs(config,
                attention == AttentionKind::classic ? ExperimentStage::classic : ExperimentStage::sparse);
}

std::unique_ptr<Transformer> make_model(const ExperimentConfig& c, Device device) {
    return std::make_unique<Transformer>(
        c.model,
        ParameterInit{.seed = static_cast<uint64_t>(c.seed), .std = c.model.init_std, .device = device});
}

}  // namespace

void estimate(PlannedVariant& variant, const Dataset& data) {
    const ExperimentConfig& c = variant.config;
    const Device device = variant.device;
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

// What differs from the plain model; nothing for the presets.
void print_model_variants(const ModelConfig& m) {
    if (m.attention_type == AttentionType::gqa)
        fmt::print("  attention   gqa, {} query heads over {} key and value heads\n", m.n_heads,
                   m.n_kv_heads);
    if (m.attention_type == AttentionType::mla)
        fmt::print(
            "  attention   mla, {} heads of {} + {} (rotated), latent {}, query latent {}, values of {}\n",
            m.n_heads, m.qk_nope_head_dim, m.qk_rope_head_dim, m.kv_lora_rank, m.q_lora_rank, m.v_head_dim);
    if (m.ffn != FeedForwardKind::silu || m.router != RouterKind::softmax || m.shared_experts > 0)
        fmt::print("  experts     {}, {} router, {} shared by all tokens\n", name_of(m.ffn),
                   name_of(m.router), m.shared_experts);
    if (m.dense_layers() > 0)
        fmt::print("  ffn_layers  {}: a D layer is one feed-forward of {}\n", m.ffn_layers, m.dense_width());
    if (!m.tie_embeddings) fmt::print("  head        a matrix of its own\n");
    if (m.rope_scaling == RopeScaling::yarn)
        fmt::print("  rope        yarn, {:g} times {} tokens\n", m.rope_factor, m.rope_original_max_seq_len);
}

void print_selector(const ExperimentConfig& c) {
    const ModelConfig& m = c.model;
    if (m.selector != "indexer")
        fmt::print("  selector    {}, top {} tokens\n", m.selector, to_string(m.sparse_top_k));
    if (!m.index_share.empty())
        fmt::print("  index_share {}: an S layer reads the keys of the F before it\n", m.index_share);
    if (!selector_kind(m.selector).has_indexer) return;
    std::string line = fmt::format("{}, {} heads of {}", name_of(m.indexer), m.indexer_heads, m.indexer_dim);
    if (m.selector == "indexer") line += fmt::format(", top {} tokens", to_string(m.sparse_top_k));
    if (m.selector == "indexer" && m.indexer_pool > 1)
        line += fmt::format(" in blocks of {}", m.indexer_pool);
    if (m.indexer_weights == IndexerWeights::off) line += ", no weights of heads";
    if (c.indexer_frozen) line += ", frozen";
    if (c.indexer_warmup == IndexerWarmup::entropy) line += ", warmed up by entropy";
    if (m.indexer_loss == IndexerLoss::full_row) line += ", aligned over full rows";
    fmt::print("  indexer     {}\n", line);
}

void print_header(const std::string& title, const ExperimentConfig& c, const Dataset& data, Device device,
                  bool sparse) {
    ExperimentConfig largest = c;
    largest.model.attention = sparse ? AttentionKind::sparse : AttentionKind::classic;
    const ParameterCount parameters = parameter_count(largest.model);
    const ModelConfig& m = c.model;
    fmt::print("{} ({} preset, seed {})\n", title, c.preset, c.seed);
    fmt::print("  device      {}\n", describe(device));
    fmt::print("  model       d_model {}, {} heads, {} layers, {} experts (top {}), d_ff {}, length {}\n",
               m.d_model, m.n_heads, m.n_layers, m.num_experts, m.expert_top_k, m.d_ff, m.max_seq_len);
    print_model_variants(m);
    if (sparse) print_selector(c);
    fmt::print("  parameters  {} (classic)", human_count(parameters.main));
    if (largest.model.has_indexer())
        fmt::print(", + {} in the indexers (sparse)", human_count(parameters.indexer));
    fmt::print("\n");
    fmt::print("  data        {}\n", data.source());
    fmt::print("  tokens      {}\n", data.token_line());
    fmt::print("  protocol    {}\n", data.protocol());
    if (!c.init_from.empty()) fmt::print("  weights     begin as those of {}\n", c.init_from);
    fmt::print("  results     {}/\n", c.results_dir);
    for (const std::string& note : setting_notes(c, sparse)) fmt::print("  note        {}\n", note);
    std::fflush(stdout);  // the trial steps that follow take a while
}

namespace {

// The weights of the classic model that sparse_init = classic starts from.
void load_classic(const PlannedVariant& variant, const Dataset& data, const Transformer& model) {
    const std::string& source = variant.classic_model;
    if (!fs::exists(source))
        fail_bad_file(
            fmt::format("{}: not found; --sparse_init classic needs the trained classic model, so run "
                        "--stages classic first",
                        source));
    const FinalModel classic = read_final_model(source);
    if (const auto manifest = manifest_of(classic, source)) {
        const auto differences = data_differences(manifest->fingerprint, data.fingerprint());
        if (!differences.empty())
            fail_bad_file(fmt::format(
                "{}: was trained on other data than this run's: {}; train the classic model again", source,
                describe(differences)));
    }
    model.load_state(classic.model->state(), source, true);
}

// What a run begins with in place of random weights. The main model of sparse_init = classic comes from there,
// its indexers from init_from when they are there.
void load_initial_weights(const PlannedVariant& variant, const Dataset& data, const Transformer& model) {
    const ExperimentConfig& c = variant.config;
    if (!c.init_from.empty()) load_hf_weights(c.init_from, model);
    if (c.model.is_sparse() && c.sparse_init == SparseInit::classic) load_classic(variant, data, model);
}

// Of a run that begins, or that goes on in this process.
Manifest begin_manifest(const PlannedVariant& variant, const Dataset& data) {
    Manifest manifest = new_manifest(variant.config, data, variant.device);
    if (variant.resume_from.empty()) return manifest;
    const Manifest earlier = read_manifest(variant.resume_from);
    if (variant.resume_from != variant.folder) manifest.run = earlier.run;
    manifest.sessions.insert(manifest.sessions.begin(), earlier.sessions.begin(), earlier.sessions.end());
    return manifest;
}

void write_finished_files(const PlannedVariant& variant, const std::string& work, const Transformer& model,
                          const TrainingHistory& history, const Dataset& data, const Manifest& manifest) {
    const ExperimentConfig& c = variant.config;
    write_json_atomic(work + "/training_results.json", training_results(history, manifest));
    write_json_atomic(work + "/config.json", config_to_json(c));
    write_training_curves(work + "/training_curves.png", history, c);
    write_final_model(work + "/final_model.pt", model, c, data.tokenizer().to_json(),
                      manifest_to_json(manifest).dump(2));
}

}  // namespace

bool wants_training(PlannedVariant& variant, const Dataset& data, bool resume) {
    prepare_run_folder(variant.folder);
    if (!resume) return true;
    const Continuation found = plan_resume(variant.folder, variant.config, data.fingerprint());
    variant.resume_from = found.from;
    return found.kind != Continuation::Kind::keep;
}

TrainingOutcome run_variant(const PlannedVariant& variant, const Dataset& data, double seconds_after) {
    const ExperimentConfig& c = variant.config;
    release_cached_memory(variant.device);
    reset_peak_memory(variant.device);
    const auto model = make_model(c, variant.device);
    if (variant.resume_from.empty()) load_initial_weights(variant, data, *model);
    const std::string work = unfinished_folder(variant.folder);
    const Manifest manifest = begin_manifest(variant, data);
    if (variant.resume_from == work)
        write_manifest(work, manifest);
    else
        begin_run(variant.folder, manifest);
    fmt::print("\n{} model\n", c.model.is_sparse() ? "Sparse" : "Classic");
    TrainingHistory history;
    const TrainingOutcome outcome = train({.config = c,
                                           .data = data,
                                           .model = *model,
                                           .folder = work,
                                           .resume_from = variant.resume_from,
                                           .manifest_json = manifest_to_json(manifest).dump(2),
                                           .seconds_after = seconds_after,
                                           .estimated_step_seconds = variant.step_seconds},
                                          history);
    if (outcome == TrainingOutcome::interrupted) return outcome;
    write_finished_files(variant, work, *model, history, data, manifest);
    finish_run(variant.folder);
    return outcome;
}

namespace {

std::vector<PlannedVariant> plan(const ExperimentCommand& command, const ResultPaths& paths,
                                 const Dataset& data, Device device) {
    std::vector<PlannedVariant> variants;
    for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse}) {
        if (!trains(command.config, attention)) continue;
        PlannedVariant variant{.config = command.config,
                               .folder = paths.variant(attention),
                               .classic_model = paths.variant(AttentionKind::classic) + "/final_model.pt",
                               .device = device};
        variant.config.model.attention = attention;
        if (!wants_training(variant, data, command.resume)) {
            fmt::print("  {} was finished by an earlier run and is kept\n", name_of(attention));
            continue;
        }
        estimate(variant, data);
        variants.push_back(std::move(variant));
    }
    return variants;
}

// The most that the process will hold, when trial steps have run: that, and what comes after. Pictures and
// files take about 32 MiB; the comparison holds a second model, with its optimiser's moments. The gradients of
// the two lie in the same memory, in turns.
int64_t expected_process_bytes(const std::vector<PlannedVariant>& variants) {
    constexpr int64_t pictures_and_files = 32 << 20;
    int64_t second_model = 0;
    for (const PlannedVariant& v : variants) {
        const int64_t moments = v.config.optimizer == OptimizerKind::muon ? 1 : 2;
        if (v.device.is_cpu() && runs(v.config, ExperimentStage::compare))
            second_model = (1 + moments) * 4 * parameter_count(v.config.model).total();
    }
    return peak_process_bytes() + pictures_and_files + second_model;
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
    fmt::print("  memory      about {} of tensors, {} of the whole process (from trial steps)\n",
               human_bytes(bytes), human_bytes(expected_process_bytes(variants)));
    fmt::print("  total time  about {} (from trial steps, evaluation included)\n", human_time(total));
    std::fflush(stdout);
}

// All layers of the sparse model. Of the classic one those that `visualize` drew before: no picture in the
// folder is of an earlier model.
void draw_attention(const ResultPaths& paths, const Dataset& data) {
    const std::string folder = paths.comparison();
    const FinalModel sparse = read_final_model(paths.variant(AttentionKind::sparse) + "/final_model.pt");
    const TextSample sample = validation_sample(data, 0);
    std::vector<int64_t> layers(static_cast<size_t>(sparse.config.model.n_layers));
    std::iota(layers.begin(), layers.end(), 0);
    write_attention_pictures(*sparse.model, sample, layers, folder);
    write_selection_statistics(selection_statistics(*sparse.model, data, statistics_windows), folder);
    std::vector<int64_t> dense = layers_drawn(folder, "dense_attention");
    if (dense.empty()) return;
    const FinalModel classic = read_final_model(paths.variant(AttentionKind::classic) + "/final_model.pt");
    std::erase_if(dense, [&](int64_t layer) { return layer >= classic.config.model.n_layers; });
    write_attention_pictures(*classic.model, sample, dense, folder);
}

}  // namespace

void warn_about_earlier_run(const std::string& folder) {
    if (fs::exists(folder + "/final_model.pt"))
        fmt::print(stderr, "{}: holds an earlier run; its files are replaced when this one is complete\n",
                   folder);
}

DataConfig data_config(const ExperimentConfig& c) {
    return {.task = c.task,
            .recall_pairs = c.recall_pairs,
            .data = c.data,
            .text_key = c.text_key,
            .tokenizer = c.tokenizer,
            .vocab_size = static_cast<int>(c.model.vocab_size),
            .max_tokens = c.max_tokens,
            .num_documents = c.num_documents,
            .protocol = c.protocol,
            .held_out = c.held_out,
            .val_fraction = c.val_fraction,
            .cache_dir = c.cache_dir,
            .seed = static_cast<uint64_t>(c.seed),
            .seq_len = c.model.max_seq_len,
            .batch_size = c.batch_size};
}

void set_vocabulary(ExperimentConfig& config, const Dataset& data) {
    const int64_t tokens = data.tokenizer().vocab_size();
    if (config.init_from.empty())
        config.model.vocab_size = tokens;
    else if (tokens > config.model.vocab_size)
        fail_usage(
            fmt::format("tokenizer: has {} tokens, the model of init_from {} has {}; give the tokenizer.json "
                        "that it was trained with",
                        tokens, config.init_from, config.model.vocab_size));
}

Dataset load_data(ExperimentConfig& config) {
    if (!config.init_from.empty() && config.tokenizer.empty() && config.task == Task::text)
        fail_usage(
            fmt::format("tokenizer: empty, and {} has no tokenizer.json; give the one that its model was "
                        "trained with",
                        config.init_from));
    Dataset data = load_dataset(data_config(config), loading_log());
    set_vocabulary(config, data);
    return data;
}

namespace {

constexpr AttentionKind both_variants[] = {AttentionKind::classic, AttentionKind::sparse};

// Makes the folders that this command writes into, and locks them until the program ends.
std::vector<FolderLock> lock_folders(const ExperimentConfig& config, const ResultPaths& paths) {
    std::vector<std::string> folders;
    for (const AttentionKind attention : both_variants)
        if (trains(config, attention)) folders.push_back(paths.variant(attention));
    if (runs(config, ExperimentStage::compare)) folders.push_back(paths.comparison());
    std::vector<FolderLock> locks;
    for (const std::string& folder : folders) {
        make_folder(folder);
        locks.emplace_back(folder);
        remove_temporary_files(folder);
    }
    return locks;
}

// A comparison with a model that is there already is refused before hours are spent on the other one.
void check_comparable(const ExperimentConfig& config, const ResultPaths& paths, const Dataset& data,
                      bool allow_different) {
    for (const AttentionKind attention : both_variants) {
        if (trains(config, attention)) continue;
        const Manifest there = finished_variant(paths, attention).manifest;
        const bool classic = attention == AttentionKind::classic;
        std::vector<Difference> differences =
            config_differences(classic ? there.config : config, classic ? config : there.config);
        for (Difference& d : data_differences(there.fingerprint, data.fingerprint()))
            differences.push_back(std::move(d));
        refuse_different(differences, allow_different, config.results_dir);
    }
}

void compare(const ExperimentConfig& config, const ResultPaths& paths, const Dataset& data, Device device,
             bool allow_different) {
    const auto in_turns = [&](const ExperimentConfig& both) { return time_in_pairs(both, data, device); };
    write_comparison(paths, in_turns, allow_different);
    release_cached_memory(device);
    draw_attention(paths, data);
    fmt::print("\n{}: all of it on one page\n", write_report(config.results_dir, paths.comparison()));
    fmt::print("results are in {}/; the process took at most {} of memory\n", config.results_dir,
               human_bytes(peak_process_bytes()));
}

// The comparison of models that are there: their own configuration and tokenizer count, not the command's.
int compare_only(const ExperimentConfig& given, const ResultPaths& paths, Device device,
                 bool allow_different) {
    const FinishedVariant classic = finished_variant(paths, AttentionKind::classic),
                          sparse = finished_variant(paths, AttentionKind::sparse);
    ExperimentConfig config = compared_config(classic, sparse);
    config.results_dir = given.results_dir;
    const std::string file = paths.variant(AttentionKind::sparse) + "/final_model.pt";
    FinalModel trained = read_final_model(file);
    trained.config.cache_dir = given.cache_dir;
    const Dataset data = data_of_model(trained, file);
    print_header("Sieve experiment 4: classic against sparse attention", config, data, device, true);
    compare(config, paths, data, device, allow_different);
    return 0;
}

}  // namespace

Dataset data_of_model(const FinalModel& trained, const std::string& file) {
    DataConfig config = data_config(trained.config);
    tokenizer_of_model(trained, file);  // refuses what it cannot be
    config.tokenizer_json = trained.tokenizer_json;
    Dataset data = load_dataset(config, loading_log());
    const auto manifest = manifest_of(trained, file);
    if (manifest && manifest->fingerprint.corpus != data.fingerprint().corpus)
        fail_bad_file(
            fmt::format("{}: the text has changed since {} was trained on it (XXH3 {} then, {} now)",
                        data.source(), file, manifest->fingerprint.corpus, data.fingerprint().corpus));
    return data;
}

int run_experiment(const ExperimentCommand& given, bool allow_different) {
    ExperimentCommand command = given;
    ExperimentConfig& config = command.config;
    const Device device = prepare_machine(config);
    const ResultPaths paths(config.results_dir);
    const std::vector<FolderLock> locks = lock_folders(config, paths);
    const bool compares = runs(config, ExperimentStage::compare);
    if (!trains(config, AttentionKind::classic) && !trains(config, AttentionKind::sparse))
        return compare_only(config, paths, device, allow_different);
    const Dataset data = load_data(config);
    if (compares) check_comparable(config, paths, data, allow_different);
    for (const AttentionKind attention : both_variants)
        if (!command.resume && trains(config, attention)) warn_about_earlier_run(paths.variant(attention));
    print_header("Sieve experiment 4: classic against sparse attention", config, data, device, true);
    const std::vector<PlannedVariant> variants = plan(command, paths, data, device);
    if (!variants.empty()) print_plan(variants);

    catch_interrupts(finishing_step);
    for (size_t i = 0; i < variants.size(); ++i) {
        double after = 0;
        for (size_t j = i + 1; j < variants.size(); ++j) after += variants[j].seconds;
        if (run_variant(variants[i], data, after) == TrainingOutcome::finished) continue;
        fmt::print("\ninterrupted; the state is saved. To go on: the same command with --resume\n");
        return interrupted();
    }
    if (compares) compare(config, paths, data, device, allow_different);
    return 0;
}

}  // namespace sieve
