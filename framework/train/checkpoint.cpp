#include "framework/train/checkpoint.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/pt.h"

namespace sieve {
namespace {

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

// One list of the history's fields serves writing and reading.
template <class History, class F>
void for_each_field(History& h, F&& f) {
    f("steps", h.steps);
    f("train_loss", h.train_loss);
    f("val_loss", h.val_loss);
    f("val_accuracy", h.val_accuracy);
    f("val_perplexity", h.val_perplexity);
    f("learning_rate", h.learning_rate);
    f("grad_norm", h.grad_norm);
    f("time_per_step", h.time_per_step);
    f("indexer_kl", h.indexer_kl);
    f("indexer_recall", h.indexer_recall);
    f("indexer_covered_mass", h.indexer_covered_mass);
    f("layer_recall", h.layer_recall);
    f("layer_covered_mass", h.layer_covered_mass);
    f("step_loss", h.step_loss);
    f("warmup_loss", h.warmup_loss);
    f("training_seconds", h.training_seconds);
    f("warmup_seconds", h.warmup_seconds);
    f("total_seconds", h.total_seconds);
    f("peak_memory_bytes", h.peak_memory_bytes);
}

constexpr const char* precision_recall = "indexer_precision_recall";  // absent with fp32

// The two halves of a resumed run share every key that shapes its numbers.
void check_same_config(ExperimentConfig saved, ExperimentConfig current, const std::string& path) {
    const std::vector<ConfigKey> before = all_config_keys(saved), now = all_config_keys(current);
    for (size_t i = 0; i < now.size(); ++i) {
        if (!now[i].saved() || now[i].is(KeyNature::label)) continue;
        const Json was = json_of(before[i].value), is = json_of(now[i].value);
        if (was != is)
            fail_bad_file(
                fmt::format("{}: was written with {} = {}, this run has {}; resume with the same "
                            "configuration or start afresh without --resume",
                            path, now[i].name, was.dump(), is.dump()));
    }
}

}  // namespace

Json state_of_history(const TrainingHistory& history) {
    Json json;
    for_each_field(history, [&](const char* name, const auto& value) { json[name] = value; });
    if (!history.indexer_precision_recall.empty()) json[precision_recall] = history.indexer_precision_recall;
    return json;
}

TrainingHistory history_from_state(const Json& json) {
    TrainingHistory history;
    for_each_field(history, [&](const char* name, auto& value) { json.at(name).get_to(value); });
    if (json.contains(precision_recall)) json.at(precision_recall).get_to(history.indexer_precision_recall);
    return history;
}

void write_checkpoint(const std::string& path, const Checkpoint& checkpoint, const ExperimentConfig& config) {
    NamedTensors tensors;
    for (const auto& [name, tensor] : checkpoint.model) tensors.push_back({name, tensor.to(Device{})});
    for (const auto& [name, tensor] : checkpoint.optimizer)
        tensors.push_back({optimizer_prefix + name, tensor.to(Device{})});
    const Json progress = {{"stage", checkpoint.stage},
                           {"step", checkpoint.step},
                           {"history", state_of_history(checkpoint.history)}};
    write_pt(path, tensors,
             {{"config.json", config_to_json(config).dump(2)}, {"progress.json", progress.dump()}});
}

Checkpoint read_checkpoint(const std::string& path, const ExperimentConfig& config) {
    const PtFile file = read_pt(path);
    // Keys younger than the checkpoint have their defaults.
    check_same_config(config_from_json(parse_member(file.extra, path, "config.json"), path, true), config,
                      path);
    const Json progress = parse_member(file.extra, path, "progress.json");
    Checkpoint checkpoint;
    try {
        checkpoint.stage = progress.at("stage").get<int64_t>();
        checkpoint.step = progress.at("step").get<int64_t>();
        checkpoint.history = history_from_state(progress.at("history"));
    } catch (const Json::exception& e) {
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

void write_final_model(const std::string& path, const Transformer& model, const ExperimentConfig& config,
                       const std::string& tokenizer_json) {
    NamedTensors tensors;
    for (const NamedTensor& p : model.state()) tensors.push_back({p.name, p.tensor.to(Device{})});
    write_pt(path, tensors,
             {{"config.json", config_to_json(config).dump(2)}, {"tokenizer.json", tokenizer_json}});
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
    result.model = std::make_unique<Transformer>(result.config.model, ParameterInit{});
    result.model->load_state(tensors, path);
    return result;
}

FinalModel read_final_model(const std::string& path) {
    const PtFile file = read_pt(path);
    return make_final_model(file.tensors, file.extra, path);
}

}  // namespace sieve
