// evaluate: the validation of a trained model, read by other selectors, with other k, and densely.
#include "framework/train/evaluate.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/json_file.h"
#include "framework/program/command_line.h"
#include "framework/program/prepare_machine.h"
#include "framework/program/progress.h"
#include "framework/runs/experiment.h"
#include "framework/train/cross_evaluation.h"
#include "framework/train/model_file.h"

namespace sieve {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
    std::string checkpoint = "results/sparse", data, eval_selector, output;
    PerLayer eval_top_k = 0;
    int64_t max_seq_len = 0, eval_batches = 16, threads = 0;
    std::string cache_dir = "data/cache";
    DeviceChoice device = DeviceChoice::automatic;
};

constexpr MetricKey shown_metrics[] = {"val_loss", "val_perplexity", "val_accuracy", "indexer_recall",
                                       "indexer_covered_mass"};

std::string own_reading(const ModelConfig& c) {
    return c.is_sparse() ? c.selector : dense_reading;
}

// One line of the table, and the object that stands for it.
Json evaluate_reading(const Transformer& trained, const Dataset& data, const std::string& reading,
                      int64_t top_k, int64_t batches) {
    const auto model = read_by(trained, reading, top_k);
    const Measurement measured = evaluate(*model, data, batches);
    const bool sparse = model->config().is_sparse();
    const std::string k = sparse ? to_string(model->config().sparse_top_k) : "all";
    const bool own = reading == own_reading(trained.config()) &&
                     (!sparse || model->config().sparse_top_k == trained.config().sparse_top_k);
    Json json{{"selector", reading}, {"top_k", k}, {"trained", own}};
    std::string line = fmt::format("{:<12} {:>8}", reading, k);
    for (const MetricKey metric : shown_metrics) {
        const double value = measured[metric];
        json[metric->name] = std::isnan(value) ? Json() : json_number(value);
        const std::string format = fmt::format("{{:.{}f}}", metric->decimals);
        line += fmt::format("  {:>{}}", std::isnan(value) ? "" : number_text(format, value * metric->factor),
                            column_title(metric).size());
    }
    fmt::print("{}{}\n", line, own ? "  as trained" : "");
    std::fflush(stdout);
    return json;
}

int run(const Arguments& a) {
    FinalModel trained = read_model(a.checkpoint);
    warn_of_leak(trained);
    if (!a.data.empty()) {
        trained.config.data = a.data;
        trained.manifest_json.clear();  // which tells of another text
    }
    if (a.max_seq_len > 0) trained.config.model.max_seq_len = a.max_seq_len;
    trained.config.device = a.device, trained.config.threads = a.threads,
    trained.config.cache_dir = a.cache_dir;
    const Device device = prepare_machine(trained.config);
    const Dataset data = data_of_model(trained, a.checkpoint);
    const Transformer model(trained.config.model, ParameterInit{.std = 0, .device = device});
    model.load_state(trained.model->state(), a.checkpoint);
    const std::vector<std::string> readings =
        a.eval_selector.empty() ? readings_of(model.config()) : split_names(a.eval_selector);
    fmt::print("{:<12} {:>8}", "selector", "top k");
    for (const MetricKey metric : shown_metrics) fmt::print("  {}", column_title(metric));
    fmt::print("\n");
    Json rows = Json::array();
    for (const std::string& reading : readings)
        for (const int64_t k : reading == dense_reading ? std::vector<int64_t>{0} : a.eval_top_k.values())
            rows.push_back(evaluate_reading(model, data, reading, k, a.eval_batches));
    if (!a.output.empty())
        write_json_atomic(a.output, Json{{"checkpoint", a.checkpoint},
                                         {"eval_batches", a.eval_batches},
                                         {"data", data.source()},
                                         {"readings", rows}});
    return 0;
}

void check(const Arguments& a) {
    for (const int64_t k : a.eval_top_k.values())
        if (k < 0) fail_usage(fmt::format("eval_top_k: {}, want at least 0 (the model's own)", k));
    if (a.max_seq_len < 0)
        fail_usage(fmt::format("max_seq_len: {}, want at least 0 (the model's own)", a.max_seq_len));
    if (a.eval_batches < 0)
        fail_usage(fmt::format("eval_batches: {}, want at least 0 (all)", a.eval_batches));
}

int main_of(int argc, char** argv) {
    Arguments a;
    ToolCommand command(
        "evaluate",
        "Evaluates a trained model on its validation text as it was trained, and read by other "
        "selectors, with other numbers of keys, and densely.");
    command.group("Model");
    command.option(
        "checkpoint", a.checkpoint,
        "a folder of results, a .pt or .safetensors file of a trained model, or a Hugging Face folder");
    command.group("Evaluation");
    command.option(
        "data", a.data,
        "another text than the one that the model was trained on, or one for a model that does not say: a "
        "file or a folder");
    command.option("max_seq_len", a.max_seq_len, "tokens in a window; 0: the model's own");
    command.option(
        "eval_selector", a.eval_selector,
        "how it reads: dense (all keys) or names of selectors, as in dense,oracle,recent; empty: all "
        "that its parameters allow");
    command.option("eval_top_k", a.eval_top_k,
                   "keys of each query, one number or a list (16,32,64); 0: the model's own");
    command.option("eval_batches", a.eval_batches, "validation batches; 0: all");
    command.group("Running");
    command.option("output", a.output, "a .json file for the numbers; empty: none");
    command.option("cache_dir", a.cache_dir, "where tokenised text is kept");
    command.option("device", a.device, "auto, cpu or cuda");
    command.option("threads", a.threads, "0: the cores that other programs leave free");
    if (!command.parse(argc, argv)) return 0;
    check(a);
    return run(a);
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    return sieve::run_program("evaluate", {}, [&] { return sieve::main_of(argc, argv); });
}
