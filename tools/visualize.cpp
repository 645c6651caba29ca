// visualize: draws what a trained model attends to, from its results folder, without training.
#include <fmt/format.h>

#include <charconv>
#include <filesystem>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/program/command_line.h"
#include "framework/program/progress.h"
#include "framework/report/inspect.h"
#include "framework/report/report.h"
#include "framework/runs/experiment.h"
#include "framework/train/model_file.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

struct Arguments {
    std::string results, layer = "0", text, out;
    int64_t sample = 0;
};

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

// The model's file: `results` itself (a Hugging Face folder too), or final_model.pt in that folder.
std::string model_file(const std::string& results) {
    if (fs::is_regular_file(results) || is_hf_folder(results)) return results;
    const std::string path = (fs::path(results) / "final_model.pt").string();
    if (!fs::exists(path) && fs::exists(fs::path(results) / "sparse" / "final_model.pt"))
        fail_bad_file(fmt::format("{}: not found; {} holds whole results, so give {} or {}, or --report",
                                  path, results, (fs::path(results) / "sparse").string(),
                                  (fs::path(results) / "classic").string()));
    return path;
}

// results/sparse/final_model.pt -> results/comparison; of a Hugging Face folder models/mine -> models/mine_pictures
std::string comparison_beside(const std::string& model) {
    if (is_hf_folder(model))
        return (fs::path(model) / "").lexically_normal().parent_path().string() + "_pictures";
    return (fs::path(model).parent_path() / ".." / "comparison").lexically_normal().string();
}

Dataset validation_data(const FinalModel& trained, const std::string& file) {
    try {
        return data_of_model(trained, file);
    } catch (const Error& e) {
        throw Error(e.kind(),
                    fmt::format("{} (the text that the model was trained on; --text draws a text of "
                                "yours without it)",
                                e.what()),
                    e.lower());
    }
}

// Where pictures go. Those of another sample or text have a folder of their own: the ones that belong to the
// experiment, which its report shows, stay.
std::string output_folder(const Arguments& given, const std::string& file, bool has_text) {
    if (!given.out.empty()) return given.out;
    const std::string experiment = comparison_beside(file);
    if (has_text) return experiment + "/text";
    return given.sample == 0 ? experiment : fmt::format("{}/sample{}", experiment, given.sample);
}

void print_written(const std::vector<std::string>& files) {
    for (const std::string& file : files) fmt::print("wrote {}\n", file);
    std::fflush(stdout);  // in a pipe too: a layer of a long text takes a while
}

void draw_layers(const Transformer& model, const TextSample& sample, const std::vector<int64_t>& layers,
                 const std::string& out) {
    for (const int64_t layer : layers) print_written(write_attention_pictures(model, sample, {layer}, out));
}

TextSample given_text(const FinalModel& trained, const std::string& file, const std::string& text) {
    const int64_t longest = trained.config.model.max_seq_len;
    const TextSample sample = text_sample(tokenizer_of_model(trained, file), text, longest);
    if (sample.left_out > 0)
        fmt::print(stderr, "text: {} tokens, of which the first {} are drawn (the model's max_seq_len)\n",
                   longest + sample.left_out, longest);
    return sample;
}

int draw(const Arguments& given, bool has_text) {
    const std::string file = model_file(given.results);
    const FinalModel trained = is_hf_folder(file) ? read_hf_folder(file) : read_final_model(file);
    warn_of_leak(trained);
    const Transformer& model = *trained.model;
    const std::vector<int64_t> layers = parse_layers(given.layer, trained.config.model.n_layers);
    const std::string out = output_folder(given, file, has_text);
    if (!trained.config.model.is_sparse())
        fmt::print("{} is a classic model: it has no indexer, so its dense attention is drawn\n",
                   given.results);
    if (has_text) {
        const TextSample sample = given_text(trained, file, given.text);
        make_folder(out);
        draw_layers(model, sample, layers, out);
        return 0;
    }
    const Dataset data = validation_data(trained, file);
    const TextSample sample = validation_sample(data, given.sample);
    make_folder(out);
    draw_layers(model, sample, layers, out);
    // The statistics are of all windows, whichever is drawn.
    const std::string all = given.out.empty() ? comparison_beside(file) : given.out;
    make_folder(all);
    if (trained.config.model.is_sparse())
        print_written(write_selection_statistics(selection_statistics(model, data, statistics_windows), all));
    return 0;
}

int report(const Arguments& given) {
    const std::string out = given.out.empty() ? (fs::path(given.results) / "comparison").string() : given.out;
    print_written({write_report(given.results, out)});
    return 0;
}

int main_of(int argc, char** argv) {
    Arguments given;
    bool wants_report = false;
    ToolCommand command("visualize",
                        "Draws what a trained model attends to: attention patterns, the indexer's heads, and "
                        "statistics over validation windows. Or makes one page of all results.");
    command.positional(
        "results", given.results,
        "a model's folder such as results/sparse, its final_model.pt, or a Hugging Face folder; "
        "with --report the "
        "folder of the whole experiment, such as results");
    command.option("layer", given.layer, "the layer to draw, or all");
    command.option("sample", given.sample, "the validation window to draw");
    command.option("text", given.text,
                   "draw this text instead, without statistics; it needs no training data");
    command.option("report", wants_report,
                   "write report.html from the JSON and PNG files in the folder; draws nothing");
    command.option(
        "out", given.out,
        "folder to write; without it comparison beside the model's folder (in the folder "
        "of the experiment with --report), and in it text or sample{N} for other texts and windows");
    if (!command.parse(argc, argv)) return 0;
    if (given.results.empty())
        fail_usage("which results? give a folder such as results/sparse; --help shows all");
    if (command.given("text") && command.given("sample"))
        fail_usage("--text and --sample: give one of them, the text to draw or the number of a window");
    if (!wants_report) return draw(given, command.given("text"));
    for (const char* option : {"layer", "sample", "text"})
        if (command.given(option))
            fail_usage(fmt::format(
                "--report and --{}: give one of them; the page is made of the pictures that are there",
                option));
    return report(given);
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    return sieve::run_program("visualize", {}, [&] { return sieve::main_of(argc, argv); });
}
