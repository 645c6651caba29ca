// bench: speed as a program. `bench step` times training steps of the classic and the sparse model and sets
// them against the rate at which this machine multiplies matrices; `bench gemm` prints that rate; `bench
// indexer` compares the precisions of the indexer, on random data or in the layers of a trained model.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "framework/autograd/autograd.h"
#include "framework/blas/gemm.h"
#include "framework/blas/gemm_rate.h"
#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/train/command_line.h"
#include "framework/train/flops.h"
#include "framework/train/inspect.h"
#include "framework/train/model_file.h"
#include "framework/train/precision_report.h"
#include "framework/train/trainer.h"

namespace sieve {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
    std::string what = "step", preset = "medium", attention = "both";
    std::string seq_lengths = "1024,4096", checkpoint, text;
    int64_t seq_len = 0, top_k = 0, batch_size = 0, threads = 0, steps = 10;
    bool json = false;
};

Batch random_batch(const ExperimentConfig& c, int64_t index) {
    const Shape shape{c.batch_size, c.model.max_seq_len};
    Batch batch{Tensor::empty(shape, DType::int32), Tensor::empty(shape, DType::int32)};
    for (int64_t i = 0; i < shape.numel(); ++i) {
        const Philox4 r = philox({1, static_cast<uint64_t>(index)}, static_cast<uint64_t>(i));
        batch.tokens.data<int32_t>()[i] =
            static_cast<int32_t>(r.v[0] % static_cast<uint32_t>(c.model.vocab_size));
        batch.targets.data<int32_t>()[i] =
            static_cast<int32_t>(r.v[1] % static_cast<uint32_t>(c.model.vocab_size));
    }
    return batch;
}

struct Timing {
    std::vector<double> seconds;  // sorted
    int64_t peak_bytes = 0;
    int64_t system_calls = 0;  // allocator misses during the timed steps: 0 in a steady step
    double median() const { return seconds[seconds.size() / 2]; }
};

Timing time_steps(const ExperimentConfig& config, int64_t steps) {
    using Clock = std::chrono::steady_clock;
    release_cached_memory();
    reset_peak_memory();
    const Transformer model(config.model, ParameterInit{});
    const Stage stage{config.model.is_sparse() ? StageKind::sparse : StageKind::classic, 1000,
                      config.learning_rate};
    StageRunner runner(config, model, stage);
    for (int64_t i = 0; i < 2; ++i) runner.step(i, random_batch(config, i));
    Timing timing;
    const int64_t calls = memory_stats().system_calls;
    for (int64_t i = 0; i < steps; ++i) {
        const Batch batch = random_batch(config, i + 2);
        const auto start = Clock::now();
        runner.step(i + 2, batch);
        timing.seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    timing.system_calls = memory_stats().system_calls - calls;
    timing.peak_bytes = memory_stats().peak_bytes;
    std::sort(timing.seconds.begin(), timing.seconds.end());
    return timing;
}

Json bench_variant(const ExperimentConfig& config, int64_t steps, double sgemm_rate) {
    const Timing t = time_steps(config, steps);
    const StepFlops flops = training_step_flops(config.model, config.batch_size, config.model.max_seq_len);
    const double rate = flops.total() / t.median() / 1e9;
    return {
        {"seconds_per_step", t.median()},
        {"fastest", t.seconds.front()},
        {"slowest", t.seconds.back()},
        {"tokens_per_second", static_cast<double>(config.batch_size * config.model.max_seq_len) / t.median()},
        {"model_gflop", flops.model() / 1e9},
        {"optimizer_gflop", flops.optimizer / 1e9},
        {"gflop_per_second", rate},
        {"model_gflop_per_second", flops.model() / t.median() / 1e9},
        {"sgemm_ratio", rate / sgemm_rate},
        {"peak_tensor_bytes", t.peak_bytes},
        {"allocator_misses", t.system_calls}};
}

void print_variant(const std::string& name, const Json& r) {
    fmt::print(
        "{:<8} {:>7.1f} ms/step (fastest {:.1f}, slowest {:.1f})  {:.0f} tokens/s  {:.1f} GFLOP model + "
        "{:.1f} "
        "optimiser  {:.0f} GFLOP/s  {:.0f} % of sgemm  peak {:.0f} MiB\n",
        name, 1000 * r["seconds_per_step"].get<double>(), 1000 * r["fastest"].get<double>(),
        1000 * r["slowest"].get<double>(), r["tokens_per_second"].get<double>(),
        r["model_gflop"].get<double>(), r["optimizer_gflop"].get<double>(),
        r["gflop_per_second"].get<double>(), 100 * r["sgemm_ratio"].get<double>(),
        r["peak_tensor_bytes"].get<double>() / (1 << 20));
}

void bench_step(const Arguments& a) {
    ExperimentConfig config;
    apply_preset(config, a.preset);
    if (a.seq_len) config.model.max_seq_len = a.seq_len;
    if (a.top_k) config.model.sparse_top_k = a.top_k;
    if (a.batch_size) config.batch_size = a.batch_size;
    validate(config);
    const double rate = cpu::measured_sgemm_rate();
    Json result{{"preset", a.preset},
                {"batch_size", config.batch_size},
                {"seq_len", config.model.max_seq_len},
                {"top_k", config.model.sparse_top_k},
                {"threads", thread_count()},
                {"gemm_backend", cpu::gemm_backend()},
                {"sgemm_gflop_per_second", rate}};
    if (!a.json)
        fmt::print("{} preset, {} windows of {} tokens, top {}, {} threads, {}: sgemm {:.0f} GFLOP/s\n",
                   a.preset, config.batch_size, config.model.max_seq_len,
                   to_string(config.model.sparse_top_k), thread_count(), cpu::gemm_backend(), rate);
    for (const char* attention : {"classic", "sparse"}) {
        if (a.attention != "both" && a.attention != attention) continue;
        config.model.attention = attention;
        result[attention] = bench_variant(config, a.steps, rate);
        if (!a.json) print_variant(attention, result[attention]);
    }
    if (result.contains("classic") && result.contains("sparse"))
        result["sparse_over_classic"] = result["sparse"]["seconds_per_step"].get<double>() /
                                        result["classic"]["seconds_per_step"].get<double>();
    if (a.json)
        fmt::print("{}\n", result.dump());
    else if (result.contains("sparse_over_classic"))
        fmt::print("a sparse step takes {:.2f}x a classic one\n",
                   result["sparse_over_classic"].get<double>());
}

void report_precisions(const Arguments& a, const std::string& what, const IndexerProjections& projections,
                       const IndexerConfig& config, Json& rows) {
    const std::vector<PrecisionResult> results = compare_precisions(projections, config, a.steps);
    for (const PrecisionResult& r : results) {
        const double ratio = r.seconds / results.front().seconds;
        if (!a.json)
            fmt::print("{:<26} {:<5} {:>9.2f} ms  {:.2f}x fp32  recall of fp32's keys {:.4f}\n", what,
                       r.precision, 1000 * r.seconds, ratio, r.recall);
        rows.push_back({{"what", what},
                        {"precision", r.precision},
                        {"seconds", r.seconds},
                        {"over_fp32", ratio},
                        {"recall", r.recall}});
    }
}

Tensor random_operand(const Shape& shape, uint64_t stream) {
    const Tensor x = Tensor::empty(shape, DType::float32);
    for (int64_t i = 0; i < x.numel(); ++i)
        x.data<float>()[i] = static_cast<float>(normal_at({2, stream}, static_cast<uint64_t>(i)));
    return x;
}

void bench_random_indexer(const Arguments& a, Json& rows) {
    ExperimentConfig config;
    apply_preset(config, a.preset);
    ModelConfig& m = config.model;
    if (a.top_k) m.sparse_top_k = a.top_k;
    const PerLayer lengths = per_layer_from_text("seq_lengths", a.seq_lengths);
    for (const int64_t length : lengths.values()) {
        m.max_seq_len = length;
        validate(m);
        const IndexerProjections projections{random_operand({1, length, m.indexer_heads, m.indexer_dim}, 0),
                                             random_operand({1, length, m.indexer_dim}, 1),
                                             random_operand({1, length, m.indexer_heads}, 2)};
        report_precisions(a, fmt::format("random, {} tokens", length), projections, indexer_config(m, 0),
                          rows);
    }
}

// On the layers of a trained model, as they are for a text.
void bench_trained_indexer(const Arguments& a, Json& rows) {
    if (a.text.empty()) fail_usage("--checkpoint: needs --text TEXT for the model to read");
    const FinalModel trained = read_model(a.checkpoint);
    ModelConfig m = trained.config.model;
    if (!m.is_sparse())
        fail_usage(fmt::format("checkpoint: {} is a classic model, it has no indexer", a.checkpoint));
    if (a.top_k) m.sparse_top_k = a.top_k;
    const TextSample sample =
        text_sample(Tokenizer::from_json(trained.tokenizer_json, a.checkpoint), a.text, m.max_seq_len);
    const NoGrad guard;
    ForwardOptions options{.logits = false};
    options.observe = [&](int64_t layer, const AttentionTrace& trace) {
        report_precisions(a, fmt::format("layer {}, {} tokens", layer, sample.tokens.dim(1)), trace.indexer,
                          indexer_config(m, layer), rows);
    };
    trained.model->forward(sample.tokens, options);
}

void bench_indexer(const Arguments& a) {
    Json rows = Json::array();
    if (a.checkpoint.empty())
        bench_random_indexer(a, rows);
    else
        bench_trained_indexer(a, rows);
    if (a.json) fmt::print("{}\n", Json{{"threads", thread_count()}, {"selections", rows}}.dump());
}

int main_of(int argc, char** argv) {
    Arguments a;
    ToolCommand command(
        "bench",
        "Times training steps (bench step), matrix products (bench gemm) or the precisions of the "
        "indexer (bench indexer).");
    command.positional("what", a.what, "step, gemm or indexer");
    command.option("preset", a.preset, "small, medium or large");
    command.option("attention", a.attention, "classic, sparse or both");
    command.option("seq_len", a.seq_len, "tokens in a window; 0: the preset's");
    command.option("top_k", a.top_k, "selected tokens; 0: the preset's");
    command.option("batch_size", a.batch_size, "windows per step; 0: the preset's");
    command.option("threads", a.threads, "0: all cores");
    command.option("steps", a.steps, "timed steps, after two that are not; of indexer: timed selections");
    command.option("seq_lengths", a.seq_lengths, "of indexer: tokens, one length or several (1024,4096)");
    command.option("checkpoint", a.checkpoint, "of indexer: a trained model in place of random data");
    command.option("text", a.text, "of indexer: what the trained model reads");
    command.flag("json", a.json, "print one JSON object");
    if (!command.parse(argc, argv)) return 0;
    if (a.steps < 1) fail_usage(fmt::format("steps: {}, want at least 1", a.steps));
    if (a.threads) set_thread_count(static_cast<int>(a.threads));
    if (a.attention != "both" && a.attention != "classic" && a.attention != "sparse")
        fail_usage(fmt::format("attention: '{}', want classic, sparse or both", a.attention));
    if (a.what == "step")
        bench_step(a);
    else if (a.what == "gemm")
        fmt::print("{}: {:.1f} GFLOP/s in float32 on {} threads\n", cpu::gemm_backend(),
                   cpu::measured_sgemm_rate(), thread_count());
    else if (a.what == "indexer")
        bench_indexer(a);
    else
        fail_usage(fmt::format("'{}', want step, gemm or indexer", a.what));
    return 0;
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    return sieve::run_program("bench", [&] { return sieve::main_of(argc, argv); });
}
