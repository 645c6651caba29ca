#include "framework/report/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/json_file.h"
#include "framework/program/progress.h"
#include "framework/train/evaluate.h"
#include "framework/train/run_folder.h"

namespace sieve {
namespace {

using Json = nlohmann::ordered_json;

double mean_step_seconds(const TrainingHistory& h) {
    return h["step_loss"].empty() ? 0 : h.training_seconds / static_cast<double>(h["step_loss"].size());
}

// Of the last evaluation, in the order of the run's sources; none where they were not told apart.
std::vector<double> source_losses(const TrainingHistory& h, const Manifest& manifest) {
    const auto& all = h.layers("val_loss");
    if (all.empty() || all.back().size() != manifest.sources.size()) return {};
    return all.back();
}

Json held_out_of(const TrainingHistory& h, const Manifest& manifest) {
    const std::vector<double> losses = source_losses(h, manifest);
    Json json = Json::array();
    for (size_t i = 0; i < losses.size(); ++i) {
        const SourceShare& s = manifest.sources[i];
        json.push_back({{"source", s.name},
                        {"bytes", s.bytes},
                        {"held_out_bytes", s.held_out_bytes},
                        {"held_out_blocks", s.blocks},
                        {"val_loss", json_number(losses[i])}});
    }
    return json;
}

}  // namespace

double typical_step_seconds(const TrainingHistory& h) {
    return h["time_per_step"].empty() ? 0 : median_of(h["time_per_step"]);
}

ResultPaths::ResultPaths(const std::string& results_dir) : root_(results_dir) {}
std::string ResultPaths::variant(AttentionKind attention) const {
    return root_ + "/" + name_of(attention);
}
std::string ResultPaths::comparison() const {
    return root_ + "/comparison";
}

std::string ResultPaths::baseline() const {
    return root_ + "/exp3";
}

Json training_results(const TrainingHistory& history, const Manifest& manifest) {
    const ExperimentConfig& config = manifest.config;
    const MachineUsed& machine = manifest.sessions.back().machine;
    Json json = state_of_history(history);
    json["run"] = manifest.run;
    json["avg_time_per_step"] = json_number(mean_step_seconds(history));
    json["median_time_per_step"] = json_number(typical_step_seconds(history));
    json["total_time"] = history.total_seconds;
    json["protocol"] = name_of(config.protocol);
    json["data"] = manifest.data;
    json["held_out"] = held_out_of(history, manifest);
    json["device"] = machine.device;
    json["precision"] = name_of(machine.precision);
    json["threads"] = machine.threads;
    json["seed"] = config.seed;
    if (config.model.is_sparse()) {
        const Sparsity sparsity = sparsity_of(config.model);
        json["sparsity"] = {{"square", sparsity.square}, {"causal", sparsity.causal}};
        std::vector<int64_t> steps(history["warmup_loss"].size());
        for (size_t i = 0; i < steps.size(); ++i) steps[i] = static_cast<int64_t>(i) + 1;
        json["warmup_results"] = {{"steps", steps}, {"indexer_loss", json["warmup_loss"]}};
    }
    return json;
}

TrainingHistory read_training_results(const std::string& path) {
    TrainingHistory h = history_from_state(read_json(path), path);
    const size_t n = h.steps.size();
    if (n == 0) fail_bad_file(fmt::format("{}: holds no evaluation", path));
    for (const MetricKey metric : evaluation_metrics()) {
        const size_t count = h[metric].size();
        const bool may_lack = metric->sparse_only || metric->optional;
        if (count != n && !(may_lack && count == 0))
            fail_bad_file(fmt::format("{}: {} steps but {} values of {}", path, n, count, metric->name));
    }
    return h;
}

namespace {

Json performance_of(const TrainingHistory& h) {
    return {{"val_loss", json_number(h["val_loss"].back())},
            {"val_accuracy", json_number(h["val_accuracy"].back())},
            {"val_perplexity", json_number(h["val_perplexity"].back())},
            {"val_bits_per_byte", json_number(h.last("val_bits_per_byte"))},
            {"best_val_loss", json_number(*std::min_element(h["val_loss"].begin(), h["val_loss"].end()))},
            {"train_loss", json_number(h["train_loss"].back())}};
}

// Of what json_number wrote.
double number_of(const Json& json) {
    return number_in(json).value();
}

Json difference_of(const Json& classic, const Json& sparse) {
    Json difference;
    for (const auto& [key, value] : classic.items())
        difference[key] = json_number(number_of(sparse.at(key)) - number_of(value));
    difference["val_loss_percent"] =
        json_number(100 * number_of(difference["val_loss"]) / number_of(classic["val_loss"]));
    return difference;
}

// The validation loss of both models, source by source.
Json source_table(const FinishedVariant& classic, const FinishedVariant& sparse) {
    const Json ours = held_out_of(sparse.history, sparse.manifest),
               theirs = held_out_of(classic.history, classic.manifest);
    Json table = Json::array();
    if (ours.size() != theirs.size()) return table;
    for (size_t i = 0; i < ours.size(); ++i)
        table.push_back({{"source", ours[i]["source"]},
                         {"held_out_bytes", ours[i]["held_out_bytes"]},
                         {"classic", theirs[i]["val_loss"]},
                         {"sparse", ours[i]["val_loss"]}});
    return table;
}

Json efficiency_of(const TrainingHistory& h) {
    return {{"time_per_step", json_number(typical_step_seconds(h))},
            {"avg_time_per_step", json_number(mean_step_seconds(h))},
            {"total_time", h.total_seconds},
            {"warmup_time", h.warmup_seconds},
            {"peak_memory_bytes", h.peak_memory_bytes}};
}

// "met" is null when the measurement does not decide.
Json criterion(const std::string& what, double measured, const std::string& wanted, Verdict verdict) {
    return {{"criterion", what},
            {"wanted", wanted},
            {"measured", json_number(measured)},
            {"met", verdict == Verdict::undecided ? Json() : Json(verdict == Verdict::met)},
            {"verdict", name_of(verdict)}};
}
Json criterion(const std::string& what, double measured, const std::string& wanted, bool met) {
    return criterion(what, measured, wanted, met ? Verdict::met : Verdict::not_met);
}

// Steps that took turns: the times of two trainings, one after the other, say nothing on a machine whose load
// drifts.
Json speedup_criterion(const Quartiles& speedup) {
    Json json = criterion("speed-up per step", speedup.median, "at least 1.2", judge(speedup, 1.2));
    json["lower_quartile"] = speedup.lower;
    json["upper_quartile"] = speedup.upper;
    return json;
}

bool all_finite(const std::vector<double>& values) {
    return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

// The original experiment's criteria, judged on what was measured.
Json success_criteria(const TrainingHistory& classic, const TrainingHistory& sparse,
                      const Quartiles& speedup) {
    const double loss_ratio = sparse["val_loss"].back() / classic["val_loss"].back();
    const bool stable = all_finite(classic["step_loss"]) && all_finite(sparse["step_loss"]) &&
                        sparse["val_loss"].back() < sparse["val_loss"].front() + 1;
    return Json::array({criterion("sparse validation loss / classic validation loss", loss_ratio,
                                  "at most 1.05", loss_ratio <= 1.05),
                        speedup_criterion(speedup),
                        criterion("no divergence (1: stable)", stable ? 1 : 0, "1", stable)});
}

// The validation loss of experiment 3, or the reason why there is none to compare with.
struct BaselineLoss {
    double val_loss = NAN;
    std::string missing;
};

BaselineLoss baseline_loss(const ResultPaths& paths, const FinishedVariant& sparse) {
    const std::string folder = paths.baseline();
    if (!std::filesystem::exists(folder + "/training_results.json")) return {.missing = "exp3 was not run"};
    try {
        const auto theirs = finished_run(folder);
        if (!theirs) return {.missing = "exp3 is not complete"};
        ExperimentConfig ours = sparse.manifest.config, baseline = theirs->config;
        const std::vector<ConfigKey> our_keys = config_keys(ours), their_keys = config_keys(baseline);
        for (size_t i = 0; i < our_keys.size(); ++i)
            if (our_keys[i].is(KeyNature::data) && json_of(our_keys[i].value) != json_of(their_keys[i].value))
                return {.missing = fmt::format("exp3 was run with {} = {}", our_keys[i].name,
                                               text_of(their_keys[i].value))};
        if (!(theirs->fingerprint == sparse.manifest.fingerprint))
            return {.missing = "exp3 was run on another text"};
        return {.val_loss = read_training_results(folder + "/training_results.json")["val_loss"].back()};
    } catch (const Error& e) {
        return {.missing = e.what()};
    }
}

// Adds the criterion on experiment 3, or says why it could not be judged.
void judge_against_baseline(Json& metrics, const BaselineLoss& baseline, double sparse_val_loss) {
    const char* what = "sparse validation loss / that of experiment 3";
    const double ratio = sparse_val_loss / baseline.val_loss;
    if (baseline.missing.empty())
        metrics["success_criteria"].push_back(criterion(what, ratio, "at most 1.05", ratio <= 1.05));
    else
        metrics["criteria_not_judged"].push_back({{"criterion", what}, {"reason", baseline.missing}});
}

void print_row(const char* what, double classic, double sparse, const char* format,
               const std::string& remark = "") {
    const auto text = [&](double v) { return number_text(format, v); };
    fmt::print("  {:<24} {:>12} {:>12}  {}\n", what, text(classic), text(sparse), remark);
}

// Rows of the table above it; nothing when all text is of one source.
void print_sources(const Json& sources) {
    constexpr size_t most = 12;
    if (sources.size() < 2) return;
    fmt::print("  validation loss by source\n");
    for (size_t i = 0; i < std::min(most, sources.size()); ++i)
        print_row(fmt::format("  {:.22}", sources[i]["source"].get<std::string>()).c_str(),
                  number_of(sources[i]["classic"]), number_of(sources[i]["sparse"]), "{:.4f}",
                  fmt::format("{} bytes", sources[i]["held_out_bytes"].get<int64_t>()));
    if (sources.size() > most)
        fmt::print("    and {} more: comparison_metrics.json\n", sources.size() - most);
}

void print_comparison(const Json& metrics, const TrainingHistory& c, const TrainingHistory& s) {
    fmt::print("\n  {:<24} {:>12} {:>12}\n", "", "classic", "sparse");
    print_row("validation loss", c["val_loss"].back(), s["val_loss"].back(), "{:.4f}",
              number_text("{:+.2f} %", number_of(metrics["performance"]["difference"]["val_loss_percent"])));
    print_sources(metrics["performance"]["sources"]);
    print_row("validation accuracy", 100 * c["val_accuracy"].back(), 100 * s["val_accuracy"].back(),
              "{:.2f} %");
    print_row("validation perplexity", c["val_perplexity"].back(), s["val_perplexity"].back(), "{:.2f}");
    if (!std::isnan(s.last("val_bits_per_byte")))
        print_row("bits per byte", c.last("val_bits_per_byte"), s.last("val_bits_per_byte"), "{:.3f}");
    if (!std::isnan(s.last("answer_accuracy")))
        print_row("right answers", 100 * c.last("answer_accuracy"), 100 * s.last("answer_accuracy"),
                  "{:.1f} %", "chance 10 %");
    print_row("ms per step (median)", 1000 * typical_step_seconds(c), 1000 * typical_step_seconds(s),
              "{:.1f}", "of each training, at its time");
    const Json& efficiency = metrics["efficiency"];
    fmt::print("  speed-up {:.2f}x (middle half {:.2f} to {:.2f}) of {} steps of each, done in turns\n",
               efficiency["speedup"].get<double>(), efficiency["speedup_lower_quartile"].get<double>(),
               efficiency["speedup_upper_quartile"].get<double>(),
               efficiency["paired_steps"]["classic"].size());
    print_row("peak tensor MiB", static_cast<double>(c.peak_memory_bytes) / (1 << 20),
              static_cast<double>(s.peak_memory_bytes) / (1 << 20), "{:.0f}",
              number_text("ratio {:.2f}", number_of(efficiency["memory_ratio"])));
    print_row("total seconds", c.total_seconds, s.total_seconds, "{:.0f}",
              fmt::format("of which warm-up {:.0f}", s.warmup_seconds));
    fmt::print("  sparsity {:.1f} % of the square, {:.1f} % of the causal triangle\n",
               100 * metrics["sparsity"]["square"].get<double>(),
               100 * metrics["sparsity"]["causal"].get<double>());
    const std::string selection = selection_line(s.last_evaluation());
    const std::string selector = metrics["config"]["selector"].get<std::string>();
    const std::string precision = metrics["config"]["indexer_precision"].get<std::string>();
    if (!selection.empty())
        fmt::print("  {}: {}\n",
                   selector_kind(selector).has_indexer ? selector + " in " + precision : selector, selection);
    fmt::print("\n  criteria of the original experiment\n");
    for (const Json& item : metrics["success_criteria"])
        fmt::print("  {:<17} {:<48} {} (wanted {})\n", item["verdict"].get<std::string>(),
                   item["criterion"].get<std::string>(), number_text("{:.3f}", number_of(item["measured"])),
                   item["wanted"].get<std::string>());
    for (const Json& item : metrics["criteria_not_judged"])
        fmt::print("  {:<17} {:<48} {}\n", "-", item["criterion"].get<std::string>(),
                   item["reason"].get<std::string>());
}

Json json_of(const std::vector<Difference>& differences) {
    Json json = Json::array();
    for (const Difference& d : differences)
        json.push_back({{"key", d.key}, {"classic", d.was}, {"sparse", d.is}});
    return json;
}

// Moves the criteria that are `meant` to those that are not judged.
template <class Meant>
void judge_not(Json& metrics, const std::string& reason, const Meant& meant) {
    Json judged = Json::array();
    for (const Json& item : metrics["success_criteria"])
        if (meant(item["criterion"].get<std::string>()))
            metrics["criteria_not_judged"].push_back({{"criterion", item["criterion"]}, {"reason", reason}});
        else
            judged.push_back(item);
    metrics["success_criteria"] = judged;
}

// What the setting decides by itself is no result.
void judge_no_setting(Json& metrics, const ModelConfig& m, const Sparsity& sparsity) {
    const std::string setting =
        fmt::format("sparse_top_k {} of {} tokens", to_string(m.sparse_top_k), m.max_seq_len);
    const auto note = [&](const char* criterion, double share) {
        metrics["criteria_not_judged"].push_back(
            {{"criterion", criterion},
             {"reason", fmt::format("{:.1f} %: {} decides it", 100 * share, setting)}});
    };
    note("sparsity of the square (wanted 0.40 to 0.60)", sparsity.square);
    note("sparsity of the triangle (wanted 0.40 to 0.60)", sparsity.causal);
    if (m.selects_all())
        judge_not(
            metrics, setting + " leaves out no key: the sparse model is a dense one",
            [](const std::string& criterion) { return criterion.starts_with("sparse validation loss"); });
    if (m.leaks) judge_not(metrics, leak_text(m), [](const std::string&) { return true; });
}

}  // namespace

FinishedVariant finished_variant(const ResultPaths& paths, AttentionKind attention) {
    const std::string folder = paths.variant(attention);
    const auto manifest = finished_run(folder);
    if (!manifest)
        fail_bad_file(
            fmt::format("{}: holds no complete run; the comparison needs it, so run --stages {} first",
                        folder, name_of(attention)));
    return {.manifest = *manifest, .history = read_training_results(folder + "/training_results.json")};
}

ExperimentConfig compared_config(const FinishedVariant& classic, const FinishedVariant& sparse) {
    ExperimentConfig config = sparse.manifest.config, other = classic.manifest.config;
    const std::vector<ConfigKey> keys = config_keys(config), classic_keys = config_keys(other);
    for (size_t i = 0; i < keys.size(); ++i)
        if (keys[i].is(KeyNature::classic_only))
            set_from_text(keys[i].value, keys[i].name, text_of(classic_keys[i].value));
    return config;
}

std::vector<Difference> experiment_differences(const Manifest& classic, const Manifest& sparse) {
    std::vector<Difference> differences = config_differences(classic.config, sparse.config);
    for (Difference& d : data_differences(classic.fingerprint, sparse.fingerprint))
        differences.push_back(std::move(d));
    const MachineUsed &a = classic.sessions.back().machine, &b = sparse.sessions.back().machine;
    const auto note = [&](const char* key, const std::string& was, const std::string& is) {
        if (was != is) differences.push_back({key, was, is});
    };
    note("the device", a.device, b.device);
    note("the processor", a.processor, b.processor);
    note("the threads", std::to_string(a.threads), std::to_string(b.threads));
    return differences;
}

void refuse_different(const std::vector<Difference>& differences, bool allowed, const std::string& folder) {
    if (differences.empty()) return;
    const std::string what =
        fmt::format("{}: the classic and the sparse model are of different experiments: {}", folder,
                    describe(differences));
    if (!allowed)
        fail_usage(what + "; train one of them again, or compare them all the same with --allow_different");
    fmt::print(stderr, "{}\n", what);
}

// The curves of both variants are drawn again from their JSON: --stages compare renews every picture.
void write_comparison(const ResultPaths& paths, const TimePairs& time_pairs, bool allow_different) {
    const FinishedVariant classic_run = finished_variant(paths, AttentionKind::classic),
                          sparse_run = finished_variant(paths, AttentionKind::sparse);
    const std::vector<Difference> differences =
        experiment_differences(classic_run.manifest, sparse_run.manifest);
    refuse_different(differences, allow_different, paths.root());
    const ExperimentConfig config = compared_config(classic_run, sparse_run);
    const TrainingHistory &classic = classic_run.history, &sparse = sparse_run.history;
    const Sparsity sparsity = sparsity_of(config.model);
    const PairedSteps pairs = time_pairs(config);
    const Quartiles speedup = pairs.speedup();
    Json metrics;
    metrics["runs"] = {{"classic", classic_run.manifest.run}, {"sparse", sparse_run.manifest.run}};
    metrics["different_keys"] = json_of(differences);
    metrics["performance"] = {{"classic", performance_of(classic)}, {"sparse", performance_of(sparse)}};
    metrics["performance"]["difference"] =
        difference_of(metrics["performance"]["classic"], metrics["performance"]["sparse"]);
    metrics["performance"]["sources"] = source_table(classic_run, sparse_run);
    metrics["efficiency"] = {{"classic", efficiency_of(classic)},
                             {"sparse", efficiency_of(sparse)},
                             {"speedup", speedup.median},
                             {"speedup_lower_quartile", speedup.lower},
                             {"speedup_upper_quartile", speedup.upper},
                             {"paired_steps", {{"classic", pairs.classic}, {"sparse", pairs.sparse}}},
                             {"memory_ratio", json_number(static_cast<double>(sparse.peak_memory_bytes) /
                                                          static_cast<double>(classic.peak_memory_bytes))}};
    metrics["sparsity"] = {{"square", sparsity.square}, {"causal", sparsity.causal}};
    metrics["protocol"] = name_of(config.protocol);
    metrics["config"] = config_to_json(config);
    metrics["config"].erase("attention");
    metrics["success_criteria"] = success_criteria(classic, sparse, speedup);
    metrics["criteria_not_judged"] = Json::array();
    judge_against_baseline(metrics, baseline_loss(paths, sparse_run), sparse["val_loss"].back());
    judge_no_setting(metrics, config.model, sparsity);
    if (!differences.empty())
        judge_not(metrics, "the models are of different experiments",
                  [](const std::string&) { return true; });
    write_json_atomic(paths.comparison() + "/comparison_metrics.json", metrics);
    for (const auto& [attention, run] :
         {std::pair{AttentionKind::classic, &classic_run}, std::pair{AttentionKind::sparse, &sparse_run}})
        write_training_curves(paths.variant(attention) + "/training_curves.png", run->history,
                              run->manifest.config);
    write_performance_comparison(paths.comparison() + "/performance_comparison.png", classic, sparse);
    print_comparison(metrics, classic, sparse);
}

std::vector<int64_t> layers_drawn(const std::string& folder, const std::string& stem) {
    const std::string before = stem + "_layer", after = ".png";
    std::vector<int64_t> layers;
    std::error_code code;
    for (const auto& entry : std::filesystem::directory_iterator(folder, code)) {
        const std::string name = entry.path().filename().string();
        if (!name.starts_with(before) || !name.ends_with(after)) continue;
        int64_t layer = -1;
        const char *begin = name.data() + before.size(), *end = name.data() + name.size() - after.size();
        if (std::from_chars(begin, end, layer).ptr == end && layer >= 0) layers.push_back(layer);
    }
    std::sort(layers.begin(), layers.end());
    return layers;
}

}  // namespace sieve
