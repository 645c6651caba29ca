// export_model: a trained model as an ONNX, safetensors or PyTorch file.
#include <fmt/format.h>

#include <filesystem>

#include "framework/core/error.h"
#include "framework/program/command_line.h"
#include "framework/train/model_file.h"

namespace sieve {
namespace {

int main_of(int argc, char** argv) {
    std::string checkpoint = "results/sparse", output;
    ToolCommand command(
        "export_model",
        "Writes a trained model in the format that the output's name ends in:\n"
        "  .onnx         a graph from tokens to logits, any batch and length (ONNX Runtime); a plain "
        "indexer's keys\n"
        "                of equal tokens tie, and another program's rounding may rank them otherwise "
        "(docs/method.md)\n"
        "  .safetensors  weights; configuration and tokenizer as metadata\n"
        "  .pt           weights; configuration and tokenizer beside them (PyTorch, these tools)");
    command.group("Files");
    command.option("checkpoint", checkpoint,
                   "a folder of results, or a .pt or .safetensors file of a trained model");
    command.option("output", output,
                   "the file to write (required); an existing one is replaced when all went well");
    if (!command.parse(argc, argv)) return 0;
    if (output.empty()) fail_usage("output: empty; which file? for example --output model.onnx");
    check_model_format(output);
    const FinalModel trained = read_model(checkpoint);
    refuse_leak(checkpoint + ": is not exported, since another program would not know it", trained);
    write_model(output, trained);
    const ModelConfig& model = trained.config.model;
    if (std::filesystem::path(output).extension() == ".onnx" && model.has_indexer() &&
        model.indexer == IndexerKind::plain)
        fmt::print(stderr,
                   "note: where equal tokens follow each other, keys of the plain indexer tie; ONNX Runtime "
                   "may select "
                   "others of them than Sieve (docs/method.md)\n");
    fmt::print("wrote {}: {} model, {:.1f} MB\n", output, name_of(trained.config.model.attention),
               static_cast<double>(std::filesystem::file_size(output)) / 1e6);
    return 0;
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    return sieve::run_program("export_model", {}, [&] { return sieve::main_of(argc, argv); });
}
