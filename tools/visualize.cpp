// visualize: draws what a trained model attends to, from a results folder, without training.
#include <fmt/format.h>

#include <charconv>
#include <filesystem>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/train/checkpoint.h"
#include "framework/train/command_line.h"
#include "framework/train/experiment.h"
#include "framework/train/inspect.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

std::vector<int64_t> parse_layers(const std::string& text, int64_t layers) {
    std::vector<int64_t> all;
    for (int64_t i = 0; i < layers; ++i) all.push_back(i);
    if (text == "all") return all;
    int64_t layer = -1;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), layer);
    if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || layer < 0 || layer >= layers)
        fail_usage(fmt::format("layer: '{}', want 0 to {} or all", text, layers - 1));
    return {layer};
}

// results/sparse -> results/comparison
std::string default_out(const std::string& folder) {
    const fs::path path = fs::path(folder).lexically_normal();
    const fs::path parent = path.has_filename() ? path.parent_path() : path.parent_path().parent_path();
    return (parent / "comparison").string();
}

int main_of(int argc, char** argv) {
    std::string folder, layer = "0", out;
    int64_t sample = 0;
    ToolCommand command("visualize",
                        "Draws what a trained model attends to: attention patterns, the indexer's heads, and "
                        "statistics over validation windows.");
    command.positional("folder", folder, "a model's results, such as results/sparse (required)");
    command.option("layer", layer, "the layer to draw, or all");
    command.option("sample", sample, "which validation window to draw");
    command.option("out", out, "folder to write; empty: comparison beside the model's folder");
    if (!command.parse(argc, argv)) return 0;
    if (folder.empty()) fail_usage("which results? give a folder such as results/sparse; --help shows all");
    if (sample < 0) fail_usage(fmt::format("sample: {}, want at least 0", sample));
    if (out.empty()) out = default_out(folder);

    const FinalModel trained = read_final_model(folder + "/final_model.pt");
    const std::vector<int64_t> layers = parse_layers(layer, trained.config.model.n_layers);
    DataConfig config = data_config(trained.config);
    const Dataset data = load_dataset(config, [](const std::string& note) { fmt::print(stderr, "{}\n", note); });
    make_folder(out);
    if (!trained.config.model.is_sparse())
        fmt::print("{} is a classic model: it has no indexer, so its dense attention is drawn\n", folder);
    for (const std::string& file : write_attention_pictures(*trained.model, data, layers, sample, out))
        fmt::print("wrote {}\n", file);
    return 0;
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    return sieve::run_program("visualize", [&] { return sieve::main_of(argc, argv); });
}
