#include "framework/train/checkpoint.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/pt.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* optimizer_prefix = "optimizer.";

// `texts`: the members of the file that are not tensors.
Json parse_member(const std::map<std::string, std::string>& texts, const std::string& path,
                  const std::string& member) {
    const auto found = texts.find(member);
    if (found == texts.end())
        fail_bad_file(fmt::format("{}: has no {}; it was not written by this program", path, member));
    try {
        return Json::parse(found->second);
    } catch (const Json::exception& e) {
        fail_bad_file(fmt::format("{}: its {} cannot be read: {}", path, member, e.what()));
    }
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
                progress["pending"][metric->name] = (*checkpoint.pending)[metric];
    return progress;
}

void take_progress(const Json& progress, Checkpoint& checkpoint) {
    checkpoint.stage = value_named<StageKind>(progress.at("stage").get<std::string>()).value();
    progress.at("step").get_to(checkpoint.step);
    checkpoint.history = history_from_state(progress.at("history"));
    progress.at("recent_steps").get_to(checkpoint.recent_steps);
    progress.at("recent_seconds").get_to(checkpoint.recent_seconds);
    if (!progress.contains("pending")) return;
    checkpoint.pending.emplace();
    for (const MetricKey metric : logged_metrics())
        if (progress["pending"].contains(metric->name))
            (*checkpoint.pending)[metric] = progress["pending"][metric->name].get<double>();
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
    try {
        take_progress(parse_member(file.extra, path, "progress.json"), checkpoint);
    } catch (const Error&) {
        throw;
    } catch (const std::exception& e) {
        fail_bad_file(fmt::format("{}: its progress.json is of another version: {}", path, e.what()));
    }
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
    parse_member(texts, path, "tokenizer.json");
    result.tokenizer_json = texts.at("tokenizer.json");
    if (texts.contains("manifest.json")) result.manifest_json = texts.at("manifest.json");
    result.model = std::make_unique<Transformer>(result.config.model, ParameterInit{});
    result.model->load_state(tensors, path);
    return result;
}

FinalModel read_final_model(const std::string& path) {
    const PtFile file = read_pt(path);
    return make_final_model(file.tensors, file.extra, path);
}

}  // namespace sieve
