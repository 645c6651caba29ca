#include "framework/train/model_file.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/onnx.h"
#include "framework/io/safetensors.h"
#include "models/onnx_graph.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

void need_tokenizer(const std::string& path, const FinalModel& model) {
    if (model.tokenizer_json.empty())
        fail_bad_file(
            fmt::format("{}: would hold a tokenizer.json, which the model's folder lacks; put the one "
                        "there that it was trained with",
                        path));
}

std::map<std::string, std::string> texts_of(const FinalModel& model) {
    std::map<std::string, std::string> texts{{"config.json", config_to_json(model.config).dump(2)},
                                             {"tokenizer.json", model.tokenizer_json}};
    if (!model.manifest_json.empty()) texts["manifest.json"] = model.manifest_json;
    return texts;
}

// results/sparse -> results/sparse/final_model.pt
std::string file_in_folder(const std::string& folder) {
    const fs::path file = fs::path(folder) / "final_model.pt";
    if (fs::exists(file)) return file.string();
    if (fs::exists(fs::path(folder) / "unfinished"))
        fail_bad_file(fmt::format(
            "{}: has no final_model.pt yet: its run is not complete; go on with --resume", folder));
    for (const char* variant : {"sparse", "classic"})
        if (fs::exists(fs::path(folder) / variant / "final_model.pt"))
            fail_bad_file(fmt::format("{}: has no final_model.pt; did you mean {}?", folder,
                                      (fs::path(folder) / variant).string()));
    fail_bad_file(fmt::format("{}: has no final_model.pt; a run writes it at its end", folder));
}

FinalModel read_safetensors_model(const std::string& path) {
    const SafetensorsFile file = read_safetensors(path);
    return make_final_model(file.tensors, file.metadata, path);
}

void write_safetensors_model(const std::string& path, const FinalModel& model) {
    std::map<std::string, std::string> metadata = texts_of(model);
    metadata["format"] = "pt";
    write_safetensors(path, model.model->state(), metadata);
}

void write_onnx_model(const std::string& path, const FinalModel& model) {
    OnnxModel graph = onnx_graph(*model.model);
    graph.metadata = texts_of(model);
    write_onnx(path, graph);
}

bool is_file_name(const std::string& path) {
    const std::string ending = fs::path(path).extension();
    return ending == ".pt" || ending == ".safetensors" || ending == ".onnx";
}

}  // namespace

bool is_folder_name(const std::string& path) {
    return path.ends_with('/') || (fs::is_directory(path) && !is_file_name(path));
}

void check_model_format(const std::string& path) {
    if (is_folder_name(path)) return check_hf_output(path);
    if (!is_file_name(path))
        fail_usage(fmt::format(
            "'{}': want a name that ends in .onnx, .safetensors, .pt or / (a Hugging Face folder)", path));
}

FinalModel read_model(const std::string& path) {
    if (!fs::exists(path))
        fail_bad_file(
            fmt::format("{}: no such file or folder; ./experiments/exp4 trains models into "
                        "results/classic and results/sparse",
                        path));
    if (is_hf_folder(path)) return read_hf_folder(path);
    if (fs::is_directory(path)) return read_final_model(file_in_folder(path));
    const std::string ending = fs::path(path).extension();
    if (ending == ".onnx")
        fail_bad_file(fmt::format("{}: ONNX is written, not read; give the .pt or .safetensors file", path));
    return ending == ".safetensors" ? read_safetensors_model(path) : read_final_model(path);
}

Tokenizer tokenizer_of_model(const FinalModel& model, const std::string& path) {
    if (model.tokenizer_json.empty())
        fail_bad_file(fmt::format(
            "{}: has no tokenizer.json; put the one there that the model was trained with", path));
    return Tokenizer::from_json(model.tokenizer_json, path + ": its tokenizer.json");
}

void warn_of_leak(const FinalModel& model) {
    if (const ModelConfig& config = model.config.model; config.reads_future())
        fmt::print(stderr, "note: {}\n", leak_text(config));
}

void refuse_leak(const std::string& what, const FinalModel& model) {
    if (const ModelConfig& config = model.config.model; config.reads_future())
        fail_usage(fmt::format("{}: {}", what, leak_text(config)));
}

void write_model(const std::string& path, const FinalModel& model, const HfWriteOptions& options) {
    check_model_format(path);
    if (is_folder_name(path)) return write_hf_folder(path, model, options);
    need_tokenizer(path, model);
    const std::string ending = fs::path(path).extension();
    if (ending == ".onnx")
        write_onnx_model(path, model);
    else if (ending == ".safetensors")
        write_safetensors_model(path, model);
    else
        write_final_model(path, *model.model, model.config, model.tokenizer_json, model.manifest_json);
}

}  // namespace sieve
