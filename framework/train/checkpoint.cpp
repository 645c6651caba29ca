#include "framework/train/checkpoint.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "framework/core/error.h"
#include "framework/data/tokenizer.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/io/pt.h"
#include "models/parameter_count.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* optimizer_prefix = "optimizer.";

[[noreturn]] void missing_member(const std::string& path, const std::string& member) {
    fail_bad_file(fmt::format("{}: has no {}; it was not written by this program", path, member));
}

// `texts`: the members of the file that are not tensors.
Json parse_member(const std::map<std::string, std::string>& texts, const std::string& path,
                  const std::string& member) {
    const auto found = texts.find(member);
    if (found == texts.end()) missing_member(path, member);
    return parse_json(found->second, fmt::format("{}: its {}", path, member));
}

// What the loop's state holds besides tensors.
Json progress_of(const Checkpoint& checkpoint) {
    Json progress{{"stage", name_of(checkpoint.stage)},
                  {"step", checkpoint.step},
                  {"history", state_of_history(checkpoint.history)},
                  {"recent_steps", checkpoint.recent_steps},
                  {"recent_seconds", checkpoint.recent_seconds}};
    if (checkpoint.pending)
        for (const MetricKey metric : logged_metrics())
            if (!std::isnan((*checkpoint.pending)[metric]))
                progress["pending"][metric->name] = json_number((*checkpoint.pending)[metric]);
    return progress;
}

// Reads the progress of a run and believes nothing.
class ProgressReader {
  public:
    ProgressReader(const Json& progress, const std::string& source) : progress_(progress), source_(source) {}

    void read(Checkpoint& checkpoint) const {
        if (!progress_.is_object()) fail_bad_file(source_ + ": want one JSON object");
        const Json stage = progress_.value("stage", Json());
        const auto kind = value_named<StageKind>(stage.is_string() ? stage.get<std::string>() : "");
        if (!kind) refuse("stage", stage, wanted_name("", names_of<StageKind>()));
        checkpoint.stage = *kind;
        checkpoint.step = count("step");
        checkpoint.history = history_from_state(progress_.value("history", Json()), source_);
        checkpoint.recent_steps = count("recent_steps");
        checkpoint.recent_seconds = seconds("recent_seconds");
        if (progress_.contains("pending")) checkpoint.pending = measurement("pending");
    }

  private:
    [[noreturn]] void refuse(const std::string& key, const Json& value, const std::string& wanted) const {
        fail_bad_file(fmt::format("{}: {} is {}, want {}", source_, key, shown(value), wanted));
    }

    int64_t count(const char* key) const {
        const Json value = progress_.value(key, Json());
        const std::optional<int64_t> number = whole_number_in(value);
        if (!number || *number < 0) refuse(key, value, "a whole number of at least 0");
        return *number;
    }

    double seconds(const char* key) const {
        const Json value = progress_.value(key, Json());
        const std::optional<double> number = number_in(value);
        if (!number || !std::isfinite(*number) || *number < 0) refuse(key, value, "a number of at least 0");
        return *number;
    }

    Measurement measurement(const char* key) const {
        const Json& values = progress_.at(key);
        if (!values.is_object()) refuse(key, values, "an object of numbers");
        Measurement measured;
        for (const MetricKey metric : logged_metrics()) {
            const Json value = values.value(metric->name, Json());
            const std::optional<double> number = number_in(value);
            if (!number) refuse(fmt::format("{}.{}", key, metric->name), value, "a number");
            measured[metric] = *number;
        }
        return measured;
    }

    const Json& progress_;
    const std::string& source_;
};

// A history of other steps than were done would be averaged and drawn as that of this run.
void check_progress(const Checkpoint& c, const std::string& source) {
    const bool warms_up = c.stage == StageKind::warmup;
    const auto warmup_steps = static_cast<int64_t>(c.history["warmup_loss"].size());
    check_history(c.history,
                  warms_up                        ? c.step
                  : c.stage == StageKind::classic ? 0
                                                  : warmup_steps,
                  warms_up ? 0 : c.step, source);
    if (c.recent_steps > c.step)
        fail_bad_file(
            fmt::format("{}: recent_steps is {}, want at most step, {}", source, c.recent_steps, c.step));
    if (c.pending && c.recent_steps == 0)
        fail_bad_file(fmt::format("{}: an evaluation is pending after no step", source));
}

// A config that is damaged, or of other weights, must not make a model that is much larger than the weights.
// What is missing of a model of about that size, load_state names.
void check_size(const ModelConfig& config, const NamedTensors& tensors, const std::string& path) {
    const int64_t count = parameter_count(config).total();
    int64_t elements = 0;
    for (const NamedTensor& t : tensors) elements += t.tensor.numel();
    constexpr int64_t harmless = 1 << 22;
    if (count > elements + harmless)
        fail_bad_file(
            fmt::format("{}: its config.json describes a model of {} parameters, its tensors have {}; "
                        "does the config belong to it?",
                        path, count, elements));
}

}  // namespace

void save_checkpoint(const std::string& folder, const Checkpoint& checkpoint,
                     const ExperimentConfig& config) {
    NamedTensors tensors;
    for (const auto& [name, tensor] : checkpoint.model) tensors.push_back({name, tensor.to(Device{})});
    for (const auto& [name, tensor] : checkpoint.optimizer)
        tensors.push_back({optimizer_prefix + name, tensor.to(Device{})});
    const std::string next = folder + "/checkpoint_next.pt", latest = folder + "/checkpoint.pt";
    write_pt(
        next, tensors,
        {{"config.json", config_to_json(config).dump(2)}, {"progress.json", progress_of(checkpoint).dump()}});
    if (fs::exists(latest)) replace_file(latest, folder + "/checkpoint_previous.pt");
    replace_file(next, latest);
}

Checkpoint read_checkpoint(const std::string& path) {
    const PtFile file = read_pt(path);
    Checkpoint checkpoint;
    const std::string source = path + ": its progress.json";
    const Json progress = parse_member(file.extra, path, "progress.json");
    ProgressReader(progress, source).read(checkpoint);
    check_progress(checkpoint, source);
    const std::string prefix = optimizer_prefix;
    for (const auto& [name, tensor] : file.tensors) {
        if (name.rfind(prefix, 0) == 0)
            checkpoint.optimizer.push_back({name.substr(prefix.size()), tensor});
        else
            checkpoint.model.push_back({name, tensor});
    }
    return checkpoint;
}

Checkpoint read_last_checkpoint(const std::string& folder) {
    const std::string latest = folder + "/checkpoint.pt", previous = folder + "/checkpoint_previous.pt";
    if (!fs::exists(previous)) return read_checkpoint(latest);
    try {
        return read_checkpoint(latest);
    } catch (const Error& e) {
        Checkpoint checkpoint = read_checkpoint(previous);
        fmt::print(stderr, "{}; going on from {}, step {}\n", e.what(), previous, checkpoint.step);
        return checkpoint;
    }
}

void write_final_model(const std::string& path, const Transformer& model, const ExperimentConfig& config,
                       const std::string& tokenizer_json, const std::string& manifest_json) {
    NamedTensors tensors;
    for (const NamedTensor& p : model.state()) tensors.push_back({p.name, p.tensor.to(Device{})});
    std::map<std::string, std::string> texts{{"config.json", config_to_json(config).dump(2)},
                                             {"tokenizer.json", tokenizer_json}};
    if (!manifest_json.empty()) texts["manifest.json"] = manifest_json;
    write_pt(path, tensors, texts);
}

std::optional<Manifest> manifest_of(const FinalModel& model, const std::string& path) {
    if (model.manifest_json.empty()) return std::nullopt;
    return manifest_from_json(parse_member({{"manifest.json", model.manifest_json}}, path, "manifest.json"),
                              path + ": manifest.json");
}

void check_final_model(const std::string& path, const Manifest& manifest) {
    const PtFile file = read_pt(path);
    const ExperimentConfig config =
        config_from_json(parse_member(file.extra, path, "config.json"), path, true);
    const std::string run = parse_member(file.extra, path, "manifest.json").value("run", "");
    if (run != manifest.run || config_to_json(config) != config_to_json(manifest.config))
        fail_bad_file(fmt::format(
            "{}: is of another run ({}) than the manifest.json beside it ({}); train it again without "
            "--resume",
            path, run, manifest.run));
}

FinalModel make_final_model(const NamedTensors& tensors, const std::map<std::string, std::string>& texts,
                            const std::string& path) {
    if (texts.count("progress.json"))
        fail_bad_file(
            fmt::format("{}: is the checkpoint of a run that was not finished; go on with --resume, "
                        "final_model.pt is written at the end",
                        path));
    FinalModel result;
    result.config = config_from_json(parse_member(texts, path, "config.json"), path, true);
    if (!texts.contains("tokenizer.json")) missing_member(path, "tokenizer.json");
    result.tokenizer_json = texts.at("tokenizer.json");
    if (texts.contains("manifest.json")) result.manifest_json = texts.at("manifest.json");
    Tokenizer::from_json(result.tokenizer_json, fmt::format("{}: its tokenizer.json", path));
    check_config(result.config, path + ": its config.json");
    check_size(result.config.model, tensors, path);
    result.model = std::make_unique<Transformer>(result.config.model, ParameterInit{.std = 0});
    result.model->load_state(tensors, path);
    return result;
}

FinalModel read_final_model(const std::string& path) {
    const PtFile file = read_pt(path);
    return make_final_model(file.tensors, file.extra, path);
}

}  // namespace sieve
