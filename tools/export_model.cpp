// export_model: a trained model as an ONNX, safetensors or PyTorch file.
#include <fmt/format.h>

#include <filesystem>

#include "framework/core/error.h"
#include "framework/program/command_line.h"
#include "framework/train/model_file.h"

namespace sieve {
namespace {

// Of a file, or of all in a folder.
uintmax_t bytes_of(const std::string& path) {
    if (!std::filesystem::is_directory(path)) return std::filesystem::file_size(path);
    uintmax_t bytes = 0;
    for (const auto& file : std::filesystem::directory_iterator(path)) bytes += file.file_size();
    return bytes;
}

int main_of(int argc, char** argv) {
    std::string checkpoint = "results/sparse", output;
    HfWriteOptions folder;
    int64_t max_shard_mb = 5000;
    ToolCommand command(
        "export_model",
        "Writes a trained model in the format that the output's name ends in:\n"
        "  .onnx         a graph from tokens to logits, any batch and length (ONNX Runtime); a plain "
        "indexer's keys\n"
        "                of equal tokens tie, and another program's rounding may rank them otherwise "
        "(docs/method.md)\n"
        "  .safetensors  weights; configuration and tokenizer as metadata\n"
        "  .pt           weights; configuration and tokenizer beside them (PyTorch, these tools)\n"
        "  /             a Hugging Face folder, for transformers (attention_type mla, ffn swiglu, router "
        "sigmoid_bias)");
    command.group("Files");
    command.option(
        "checkpoint", checkpoint,
        "a folder of results, a .pt or .safetensors file of a trained model, or a Hugging Face folder");
    command.option("output", output,
                   "the file or folder to write (required); an existing one is replaced when all went well");
    command.group("Hugging Face folders");
    command.option("dtype", &folder.dtype, "of the weights: fp32, bf16 or fp16");
    command.option("max_shard_mb", max_shard_mb, "weights of more megabytes are written as several files");
    if (!command.parse(argc, argv)) return 0;
    if (output.empty()) fail_usage("output: empty; which file? for example --output model.onnx");
    check_model_format(output);
    if (!is_folder_name(output) && (command.given("dtype") || command.given("max_shard_mb")))
        fail_usage("dtype, max_shard_mb: are of Hugging Face folders; end the output's name in /");
    if (max_shard_mb < 1) fail_usage(fmt::format("max_shard_mb: {}, want at least 1", max_shard_mb));
    folder.shard_bytes = static_cast<uint64_t>(max_shard_mb) * 1'000'000;
    const FinalModel trained = read_model(checkpoint);
    refuse_leak(checkpoint + ": is not exported, since another program would not know it", trained);
    write_model(output, trained, folder);
    const ModelConfig& model = trained.config.model;
    if (std::filesystem::path(output).extension() == ".onnx" && model.has_indexer() &&
        model.indexer == IndexerKind::plain)
        fmt::print(stderr,
                   "note: where equal tokens follow each other, keys of the plain indexer tie; ONNX Runtime "
                   "may select "
                   "others of them than Sieve (docs/method.md)\n");
    fmt::print("wrote {}: {} model, {:.1f} MB\n", output, name_of(trained.config.model.attention),
               static_cast<double>(bytes_of(output)) / 1e6);
    return 0;
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    return sieve::run_program("export_model", {}, [&] { return sieve::main_of(argc, argv); });
}
