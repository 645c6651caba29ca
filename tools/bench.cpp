// bench: speed as a program. `bench step` times training steps of the classic and the sparse model and sets
// them against the rate at which this machine multiplies matrices; `bench gemm` prints that rate; `bench
// scaling` measures how a step grows along each axis of the configuration; `bench indexer` compares the
// precisions of the indexer, on random data or in the layers of a trained model; `bench decode` times the writing of a
// text token by token; `bench data` and `bench start` time what happens to a text before the first step; `bench evaluate`
// times the forward of an evaluation.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "framework/autograd/autograd.h"
#include "framework/blas/gemm.h"
#include "framework/blas/gemm_rate.h"
#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/data/token_array.h"
#include "framework/io/json_file.h"
#include "framework/io/marked_section.h"
#include "framework/io/pt.h"
#include "framework/measure/data_timing.h"
#include "framework/measure/decode_timing.h"
#include "framework/measure/flops.h"
#include "framework/measure/precision_report.h"
#include "framework/measure/process_memory.h"
#include "framework/measure/scaling.h"
#include "framework/measure/step_timing.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/program/command_line.h"
#include "framework/program/device.h"
#include "framework/report/inspect.h"
#include "framework/runs/experiment.h"
#include "framework/train/model_file.h"
#include "framework/train/trainer.h"

namespace sieve {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
    std::string what = "step", preset = "medium", attention = "both";
    OptimizerKind optimizer = OptimizerKind::muon;
    DeviceChoice device = DeviceChoice::cpu;
    PrecisionChoice precision = PrecisionChoice::fp32;
    std::string checkpoint, tokens, targets, out, markdown;
    std::string seq_lengths = "1024,4096", text;
    int64_t seq_len = 0, top_k = 0, batch_size = 0, threads = 0, steps = 10;
    bool json = false;
};

Tensor read_tokens(const std::string& path, const ExperimentConfig& c) {
    Tensor tokens = read_token_array(path, c.model.vocab_size);
    if (tokens.shape() != Shape{c.batch_size, c.model.max_seq_len})
        fail_bad_file(fmt::format("{}: shape {}, want [{},{}]: batch_size and seq_len", path,
                                  to_string(tokens.shape()), c.batch_size, c.model.max_seq_len));
    return tokens;
}

// Fresh random tokens for each step, or the same given ones.
BatchOfStep batches(const Arguments& a, const ExperimentConfig& config) {
    if (a.tokens.empty() != a.targets.empty()) fail_usage("--tokens and --targets go together");
    if (a.tokens.empty()) return [&config](int64_t step) { return random_batch(config, step); };
    const Batch given{read_tokens(a.tokens, config), read_tokens(a.targets, config)};
    return [given](int64_t) { return given; };
}

// The losses before the first step, without dropout and router noise: what another implementation can repeat.
Json first_losses(const Transformer& model, const Batch& batch, double load_balancing_weight) {
    const NoGrad no_grad;
    const Device device = model.device();
    const ModelOutput out =
        model.forward(batch.tokens.to(device), {.indexer_loss = model.config().is_sparse()});
    const Tensor targets = batch.targets.to(device);
    Json losses{{"lm", cross_entropy(out.logits, targets.alias({targets.numel()})).item()},
                {"load_balancing", load_balancing_weight * out.load_balancing.item()}};
    if (out.indexer_loss.defined()) losses["indexer_kl"] = out.indexer_loss.item();
    for (Json& loss : losses) loss = json_number(loss.get<double>());
    return losses;
}

struct Timing {
    Json losses;
    std::vector<double> seconds;
    TimeSpread spread;
    int64_t peak_bytes = 0;
    int64_t system_calls = 0;  // allocator misses during the timed steps: 0 in a steady step
};

Timing time_steps(const ExperimentConfig& config, const std::string& checkpoint, const BatchOfStep& batch_of,
                  int64_t steps) {
    const Device device = choose_device(config);
    release_cached_memory(device);
    TimedModel model(config, device, batch_of);
    if (!checkpoint.empty()) model.transformer().load_state(read_pt(checkpoint).tensors, checkpoint);
    Timing timing;
    timing.losses = first_losses(model.transformer(), batch_of(0), config.load_balancing_weight);
    const int64_t untimed = device.is_cpu() ? 2 : 4;  // fill caches; on CUDA also record the step
    for (int64_t i = 0; i < untimed; ++i)
        timing.peak_bytes = std::max(timing.peak_bytes, model.run(StepKind::train).peak_bytes);
    for (int64_t i = 0; i < steps; ++i) {
        const TimedStep step = model.run(StepKind::train);
        timing.seconds.push_back(step.seconds);
        timing.peak_bytes = std::max(timing.peak_bytes, step.peak_bytes);
        timing.system_calls += step.system_calls;
    }
    timing.spread = time_spread_of(timing.seconds);
    return timing;
}

Json bench_variant(const Arguments& a, const ExperimentConfig& config, double sgemm_rate) {
    const Timing t = time_steps(config, a.checkpoint, batches(a, config), a.steps);
    StepFlops flops = training_step_flops(config.model, config.batch_size, config.model.max_seq_len);
    if (config.optimizer == OptimizerKind::adamw) flops.optimizer = 0;
    const double rate = flops.total() / t.spread.median / 1e9;
    Json result{{"seconds_per_step", t.spread.median},
                {"fastest", t.spread.fastest},
                {"slowest", t.spread.slowest},
                {"tokens_per_second",
                 static_cast<double>(config.batch_size * config.model.max_seq_len) / t.spread.median},
                {"model_gflop", flops.model() / 1e9},
                {"optimizer_gflop", flops.optimizer / 1e9},
                {"gflop_per_second", rate},
                {"model_gflop_per_second", flops.model() / t.spread.median / 1e9},
                {"seconds", t.seconds},
                {"first_losses", t.losses},
                {"peak_tensor_bytes", t.peak_bytes},
                {"peak_process_bytes", peak_process_bytes()},
                {"allocator_misses", t.system_calls}};
    if (sgemm_rate > 0) result["sgemm_ratio"] = rate / sgemm_rate;
    return result;
}

void print_variant(const std::string& name, const Json& r) {
    const std::string share = r.contains("sgemm_ratio")
                                  ? fmt::format("  {:.0f} % of sgemm", 100 * r["sgemm_ratio"].get<double>())
                                  : "";
    fmt::print(
        "{:<8} {:>7.1f} ms/step (fastest {:.1f}, slowest {:.1f})  {:.0f} tokens/s  {:.1f} GFLOP model + "
        "{:.1f} "
        "optimiser  {:.0f} GFLOP/s{}  peak {:.0f} MiB, process {:.0f} MiB\n",
        name, 1000 * r["seconds_per_step"].get<double>(), 1000 * r["fastest"].get<double>(),
        1000 * r["slowest"].get<double>(), r["tokens_per_second"].get<double>(),
        r["model_gflop"].get<double>(), r["optimizer_gflop"].get<double>(),
        r["gflop_per_second"].get<double>(), share, r["peak_tensor_bytes"].get<double>() / (1 << 20),
        r["peak_process_bytes"].get<double>() / (1 << 20));
}

std::vector<AttentionKind> kinds_of(const Arguments& a) {
    if (const auto kind = value_named<AttentionKind>(a.attention)) return {*kind};
    return {AttentionKind::classic, AttentionKind::sparse};
}

ExperimentConfig config_of_steps(const Arguments& a) {
    ExperimentConfig config;
    apply_preset(config, a.preset);
    if (a.seq_len) config.model.max_seq_len = a.seq_len;
    if (a.top_k) config.model.sparse_top_k = a.top_k;
    if (a.batch_size) config.batch_size = a.batch_size;
    config.optimizer = a.optimizer, config.device = a.device, config.precision = a.precision;
    validate(config);
    return config;
}

// What an evaluation does with each batch: the forward with all losses. The models take turns.
void bench_evaluate(const Arguments& a) {
    ExperimentConfig config = config_of_steps(a);
    const Device device = choose_device(config);
    struct Timed {
        const char* name;
        std::unique_ptr<TimedModel> model;
        std::vector<double> seconds;
    };
    std::vector<Timed> models;
    for (const AttentionKind kind : kinds_of(a)) {
        config.model.attention = kind;
        models.push_back({name_of(kind), std::make_unique<TimedModel>(config, device), {}});
        models.back().model->run(StepKind::forward);  // fills caches
    }
    for (int64_t i = 0; i < a.steps; ++i)
        for (Timed& m : models) m.seconds.push_back(m.model->run(StepKind::forward).seconds);
    Json result{{"preset", a.preset},
                {"batch_size", config.batch_size},
                {"seq_len", config.model.max_seq_len},
                {"device", describe(device)},
                {"threads", thread_count()}};
    for (const Timed& m : models) {
        const TimeSpread spread = time_spread_of(m.seconds);
        const double rate = static_cast<double>(config.batch_size * config.model.max_seq_len) / spread.median;
        result[m.name] = {{"seconds_per_batch", spread.median},
                          {"fastest", spread.fastest},
                          {"slowest", spread.slowest},
                          {"tokens_per_second", rate}};
        if (!a.json)
            fmt::print("{:<8} {:>7.1f} ms/batch (fastest {:.1f}, slowest {:.1f})  {:.0f} tokens/s\n", m.name,
                       1000 * spread.median, 1000 * spread.fastest, 1000 * spread.slowest, rate);
    }
    if (a.json) fmt::print("{}\n", result.dump());
}

void bench_step(const Arguments& a) {
    ExperimentConfig config = config_of_steps(a);
    const Device device = choose_device(config);
    const double rate = device.is_cpu() ? cpu::measured_sgemm_rate() : 0;  // on a GPU bench_kernels has it
    Json result{{"preset", a.preset},
                {"batch_size", config.batch_size},
                {"seq_len", config.model.max_seq_len},
                {"top_k", config.model.sparse_top_k},
                {"optimizer", name_of(a.optimizer)},
                {"device", describe(device)},
                {"threads", thread_count()},
                {"gemm_backend", cpu::gemm_backend()},
                {"sgemm_gflop_per_second", rate}};
    if (!a.json)
        fmt::print("{} preset, {} windows of {} tokens, top {}; {}{}\n", a.preset, config.batch_size,
                   config.model.max_seq_len, to_string(config.model.sparse_top_k), describe(device),
                   rate > 0 ? fmt::format(": sgemm {:.0f} GFLOP/s", rate) : "");
    for (const AttentionKind kind : kinds_of(a)) {
        const char* name = name_of(kind);
        config.model.attention = kind;
        result[name] = bench_variant(a, config, rate);
        if (!a.json) print_variant(name, result[name]);
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

void bench_decode(const Arguments& a) {
    ExperimentConfig config;
    apply_preset(config, a.preset);
    if (a.top_k) config.model.sparse_top_k = a.top_k;
    config.device = DeviceChoice::cpu, config.precision = a.precision;
    validate(config);
    const Device device = choose_device(config);
    const int64_t context = a.seq_len ? a.seq_len : 16;
    Json result{{"preset", a.preset},        {"context", context},
                {"tokens", a.steps},         {"device", describe(device)},
                {"threads", thread_count()}, {"precision", name_of(precision())}};
    if (!a.json)
        fmt::print("{} preset, {} tokens after {} others, by turns; {}\n", a.preset, a.steps, context,
                   describe(device));
    for (const DecodeTiming& t : time_decoding(config.model, kinds_of(a), context, a.steps)) {
        const char* name = name_of(t.attention);
        result[name] = {{"seconds_per_token", t.seconds.median},
                        {"lower_quartile", t.seconds.lower_quartile},
                        {"upper_quartile", t.seconds.upper_quartile},
                        {"weight_bytes", t.weight_bytes},
                        {"cache_bytes", t.cache_bytes},
                        {"read_bytes_per_second", t.read_rate},
                        {"share_of_floor", t.floor_seconds() / t.seconds.median}};
        if (!a.json)
            fmt::print(
                "{:<8} {:>7.3f} ms/token ({:.3f} to {:.3f})  {:.0f} tokens/s  reads {:.1f} MB of weights and "
                "{:.1f} MB of cache, at {:.1f} GB/s in {:.3f} ms: {:.0f} %\n",
                name, 1000 * t.seconds.median, 1000 * t.seconds.lower_quartile,
                1000 * t.seconds.upper_quartile, 1 / t.seconds.median, t.weight_bytes / 1e6,
                t.cache_bytes / 1e6, t.read_rate / 1e9, 1000 * t.floor_seconds(),
                100 * t.floor_seconds() / t.seconds.median);
    }
    if (a.json) fmt::print("{}\n", result.dump());
}

void bench_gemm(const Arguments& a) {
    ExperimentConfig config;
    config.device = DeviceChoice::cpu, config.precision = a.precision;
    choose_device(config);
    fmt::print("{}: {:.1f} GFLOP/s in {} on {} threads\n", cpu::gemm_backend(), cpu::measured_sgemm_rate(),
               name_of(precision()), thread_count());
    for (const cpu::KernelRate& rate : cpu::kernel_rates())
        fmt::print("  one thread's tiles from the L1 cache: {:<26} {:>7.1f} GFLOP/s\n", rate.name,
                   rate.gflop_per_second);
}

// A page that cannot take the table is refused before the measurements, not after.
void check_page(const Arguments& a, const char* section) {
    if (!a.markdown.empty()) marked_section(a.markdown, section);
}

void bench_scaling(const Arguments& a) {
    check_page(a, "scaling");
    const int all_threads = thread_count();
    const auto seconds_of_step = [&](const ExperimentConfig& config) {
        set_thread_count(config.threads ? config.threads : all_threads);
        return time_steps(
                   config, "", [&](int64_t step) { return random_batch(config, step); }, 3)
            .spread.median;
    };
    const std::vector<ScalingSeries> series = measure_scaling(
        seconds_of_step, all_threads, [](const std::string& line) { fmt::print(stderr, "{}\n", line); });
    const Json json{{"threads", all_threads}, {"gemm_backend", cpu::gemm_backend()}, {"series", series}};
    if (!a.out.empty()) write_json_atomic(a.out, json);
    if (!a.markdown.empty()) replace_marked_section(a.markdown, "scaling", scaling_table(series));
    fmt::print("{}\n", a.json ? json.dump() : scaling_table(series));
}

std::string label_of(const PrecisionComparison& c) {
    return c.layer < 0 ? fmt::format("random, {} tokens", c.tokens)
                       : fmt::format("layer {}, {} tokens", c.layer, c.tokens);
}

// Measures what `comparison` names, and prints it.
void add_precisions(const Arguments& a, PrecisionComparison comparison, const IndexerOperands& operands,
                    int64_t top_k, std::vector<PrecisionComparison>& all) {
    comparison.results = compare_precisions(operands, top_k, a.steps);
    if (!a.json)
        for (const PrecisionResult& r : comparison.results)
            fmt::print(
                "{:<26} {:<5} {:>9.3f} ms  {:.2f}x fp32  recall of fp32's keys {:.4f} (random {:.4f})\n",
                label_of(comparison), r.precision, 1000 * r.seconds, comparison.over_fp32(r), r.recall,
                r.chance);
    all.push_back(std::move(comparison));
}

Tensor random_operand(const Shape& shape, uint64_t stream) {
    const Tensor x = Tensor::empty(shape, DType::float32);
    for (int64_t i = 0; i < x.numel(); ++i)
        x.data<float>()[i] = static_cast<float>(normal_at({2, stream}, static_cast<uint64_t>(i)));
    return x;
}

void bench_random_indexer(const Arguments& a, std::vector<PrecisionComparison>& all) {
    ExperimentConfig config;
    apply_preset(config, a.preset);
    ModelConfig& m = config.model;
    if (a.top_k) m.sparse_top_k = a.top_k;
    const PerLayer lengths = per_layer_from_text("seq_lengths", a.seq_lengths);
    for (const int64_t length : lengths.values()) {
        m.max_seq_len = length;
        validate(config);
        const IndexerOperands operands{random_operand({1, length, m.indexer_heads, m.indexer_dim}, 0),
                                       random_operand({1, length, m.indexer_dim}, 1),
                                       random_operand({1, length, m.indexer_heads}, 2),
                                       selector_config(m, 0).indexer.scale};
        add_precisions(a, {.tokens = length}, operands, m.sparse_top_k.of(0), all);
    }
}

// Where every query has a slot for each of its keys, all precisions select the same.
void require_choices(const ModelConfig& m, int64_t tokens) {
    const std::vector<int64_t>& top_k = m.sparse_top_k.values();
    const int64_t least = *std::min_element(top_k.begin(), top_k.end());
    if (tokens <= least)
        fail_usage(
            fmt::format("text: {} token{}, want more than top_k {}; give a longer text or a smaller --top_k",
                        tokens, tokens == 1 ? "" : "s", least));
}

// On the layers of a trained model, as they are for a text.
void bench_trained_indexer(const Arguments& a, std::vector<PrecisionComparison>& all) {
    if (a.text.empty()) fail_usage("--checkpoint: needs --text TEXT for the model to read");
    const FinalModel trained = read_model(a.checkpoint);
    warn_of_leak(trained);
    ModelConfig m = trained.config.model;
    if (!m.has_indexer())
        fail_usage(fmt::format("checkpoint: {} is a {} model, it has no indexer", a.checkpoint,
                               m.is_sparse() ? "sparse" : "classic"));
    if (a.top_k) m.sparse_top_k = a.top_k;
    validate(m);
    const TextSample sample = text_sample(tokenizer_of_model(trained, a.checkpoint), a.text, m.max_seq_len);
    require_choices(m, sample.tokens.dim(1));
    const NoGrad guard;
    ForwardOptions options{.logits = false};
    options.observe = [&](int64_t layer, const AttentionTrace& trace) {
        add_precisions(a, {.layer = layer, .tokens = sample.tokens.dim(1)}, *trace.indexer_operands(),
                       m.sparse_top_k.of(layer), all);
    };
    trained.model->forward(sample.tokens, options);
}

Json precisions_json(const std::vector<PrecisionComparison>& comparisons) {
    Json rows = Json::array();
    for (const PrecisionComparison& c : comparisons)
        for (const PrecisionResult& r : c.results)
            rows.push_back({{"what", label_of(c)},
                            {"precision", r.precision},
                            {"seconds", r.seconds},
                            {"over_fp32", c.over_fp32(r)},
                            {"recall", r.recall},
                            {"random_keys", r.chance}});
    return {{"threads", thread_count()}, {"selections", rows}};
}

void bench_indexer(const Arguments& a) {
    check_page(a, "precision");
    std::vector<PrecisionComparison> comparisons;
    if (a.checkpoint.empty())
        bench_random_indexer(a, comparisons);
    else
        bench_trained_indexer(a, comparisons);
    if (!a.markdown.empty()) replace_marked_section(a.markdown, "precision", precision_table(comparisons));
    if (a.json) fmt::print("{}\n", precisions_json(comparisons).dump());
}

// What happens before the first step: of `bench data` all of it, by part, of `bench start` what is left of it when the
// cache is filled.
void bench_data(const Arguments& a) {
    if (a.what == "data" && a.text.empty())
        fail_usage("text: none; want the file or folder that is to be read");
    ExperimentConfig config;
    apply_preset(config, a.preset);
    if (a.seq_len) config.model.max_seq_len = a.seq_len;
    config.data = a.text;
    config.held_out = HeldOut::blocks;
    validate(config);
    const DataConfig data = data_config(config);
    const std::string folder = fmt::format("{}/bench-{}", config.cache_dir, ::getpid());
    Json parts = Json::array();
    for (const DataTiming& t : a.what == "data" ? time_data(data, folder) : time_start(config, data)) {
        parts.push_back({{"part", t.part},
                         {"seconds", t.seconds},
                         {"processor_seconds", t.processor_seconds},
                         {"bytes", t.bytes},
                         {"peak_process_bytes", t.peak_bytes}});
        if (!a.json) fmt::print("{}\n", describe(t));
    }
    const Json result{{"preset", a.preset}, {"text", a.text}, {"threads", thread_count()}, {"parts", parts}};
    if (a.json) fmt::print("{}\n", result.dump());
}

int main_of(int argc, char** argv) {
    Arguments a;
    ToolCommand command(
        "bench",
        "Times training steps (bench step), matrix products (bench gemm), how a step grows "
        "(bench scaling), the precisions of the indexer (bench indexer), the writing of a text "
        "(bench decode), the reading and encoding of one (bench data), what comes before the first step "
        "(bench start) or the forward of an evaluation (bench evaluate).");
    command.positional("what", a.what, "step, gemm, scaling, indexer, decode, data, start or evaluate");
    command.option("preset", a.preset, "small, medium, large or long");
    command.option("attention", a.attention, "classic, sparse or both");
    command.option("seq_len", a.seq_len,
                   "tokens in a window; 0: the preset's; of decode: tokens before the timed ones, 0: 16");
    command.option("top_k", a.top_k, "selected tokens; 0: the preset's");
    command.option("batch_size", a.batch_size, "windows per step; 0: the preset's");
    command.option("threads", a.threads, "0: all cores");
    command.option("steps", a.steps,
                   "timed steps, after two that are not; of indexer: timed selections; of decode: tokens");
    command.option("optimizer", a.optimizer, "muon or adamw");
    command.option("device", a.device, "auto, cpu or cuda");
    command.option("precision", a.precision, "of matrix products: auto, fp32, bf16 or tf32 (on a GPU)");
    command.option("checkpoint", a.checkpoint,
                   "state dict to start from, of the kind --attention; of indexer: a trained model's file");
    command.option("tokens", a.tokens, "tokens.npy, integers [B,T], for every step; without it random ones");
    command.option("targets", a.targets, "targets.npy, integers [B,T]");
    command.option("seq_lengths", a.seq_lengths, "of indexer: tokens, one length or several (1024,4096)");
    command.option("text", a.text,
                   "of indexer: what the trained model reads; of data and start: a file or folder");
    command.option("out", a.out, "scaling: write the JSON here");
    command.option("markdown", a.markdown,
                   "scaling, indexer: write the table between this file's <!-- scaling --> or <!-- precision "
                   "--> markers");
    command.option("json", a.json, "print one JSON object");
    if (!command.parse(argc, argv)) return 0;
    if (a.steps < 1) fail_usage(fmt::format("steps: {}, want at least 1", a.steps));
    if (a.threads) set_thread_count(a.threads);
    if (a.attention != "both" && !value_named<AttentionKind>(a.attention))
        fail_usage(fmt::format("attention: '{}', want classic, sparse or both", a.attention));
    if (a.what == "step")
        bench_step(a);
    else if (a.what == "scaling")
        bench_scaling(a);
    else if (a.what == "gemm")
        bench_gemm(a);
    else if (a.what == "indexer")
        bench_indexer(a);
    else if (a.what == "decode")
        bench_decode(a);
    else if (a.what == "evaluate")
        bench_evaluate(a);
    else if (a.what == "data" || a.what == "start")
        bench_data(a);
    else
        fail_usage(
            fmt::format("'{}', want step, gemm, scaling, indexer, decode, data, start or evaluate", a.what));
    return 0;
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    const sieve::SizeFlags flags{{sieve::SizeKind::batch, "--batch_size"},
                                 {sieve::SizeKind::length, "--seq_len"},
                                 {sieve::SizeKind::selected_keys, "--top_k"}};
    return sieve::run_program("bench", flags, [&] { return sieve::main_of(argc, argv); });
}
