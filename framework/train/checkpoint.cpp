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
