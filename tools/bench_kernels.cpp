// bench_kernels: every op's speed on one device, against what the device can do: the bandwidth of a large
// copy and the rate of a large matrix product, both measured first, in the same run.
//
// An op is run until a tenth of a second has passed, its launches given to the device one after another, five
// times over; the median counts. Bytes are those that must move at least once (inputs read, outputs written);
// FLOPs are the formula's. The better of the two ratios says what bounds the op.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "framework/autograd/autograd.h"
#include "framework/core/cuda/runtime.h"
#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/io/json_file.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/ops/dense_attention/dense_attention.h"
#include "framework/ops/dropout/dropout.h"
#include "framework/ops/embedding/embedding.h"
#include "framework/ops/grouped_linear/grouped_linear.h"
#include "framework/ops/indexer_kl/indexer_kl.h"
#include "framework/ops/layer_norm/layer_norm.h"
#include "framework/ops/lightning_indexer/lightning_indexer.h"
#include "framework/ops/linear/linear.h"
#include "framework/ops/matmul/matmul.h"
#include "framework/ops/moe_routing/moe_routing.h"
#include "framework/ops/rms_norm/rms_norm.h"
#include "framework/ops/rope/rope.h"
#include "framework/ops/silu/silu.h"
#include "framework/ops/sparse_attention/sparse_attention.h"
#include "framework/optim/adamw.h"
#include "framework/optim/clip.h"
#include "framework/optim/muon.h"
#include "framework/program/command_line.h"
#include "framework/program/device.h"

namespace sieve {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
    ExperimentConfig config;  // device and precision
    int64_t tokens = 0, width = 1024, threads = 0;
    std::string only, output;
};

struct Cost {
    double bytes = 0, flops = 0;
};

class Bench {
  public:
    Bench(const Arguments& arguments, Device device) : only_(arguments.only), device_(device) {}

    // Times `run`. `ceiling`: this op is the measure of bandwidth or of the matrix rate itself.
    void add(const std::string& name, Cost cost, const std::function<void()>& run) {
        if (!only_.empty() && name.find(only_) == std::string::npos && !name.starts_with("ceiling")) return;
        const double seconds = median_seconds(run);
        const double gigabytes = cost.bytes / seconds / 1e9, gigaflops = cost.flops / seconds / 1e9;
        bandwidth_ = name == "ceiling: copy" ? gigabytes : bandwidth_;
        rate_ = name == "ceiling: matrix product" ? gigaflops : rate_;
        const double of_copy = bandwidth_ ? gigabytes / bandwidth_ : 0,
                     of_product = rate_ ? gigaflops / rate_ : 0;
        fmt::print("{:<34} {:>10.1f} us {:>9.0f} GB/s {:>4.0f} % {:>11.0f} GFLOP/s {:>4.0f} %\n", name,
                   1e6 * seconds, gigabytes, 100 * of_copy, gigaflops, 100 * of_product);
        std::fflush(stdout);
        results_.push_back({{"name", name},
                            {"seconds", seconds},
                            {"gigabytes_per_second", gigabytes},
                            {"of_copy", of_copy},
                            {"gflop_per_second", gigaflops},
                            {"of_matrix_product", of_product}});
    }

    // The op under NoGrad, and then with its backward for all inputs that want a gradient.
    void add_op(const std::string& name, Cost forward, Cost both, const std::function<Tensor()>& run) {
        add(name, forward, [&] {
            const NoGrad guard;
            run();
        });
        const Tensor y = run();
        const Tensor cotangent = Tensor::full(y.shape(), 1, y.dtype(), y.device());
        add(name + " + backward", both, [&] { backward({run()}, {cotangent}); });
    }

    const Json& results() const { return results_; }

  private:
    void wait() const {
        if (!device_.is_cpu()) cuda::synchronize();
    }

    double seconds_of(const std::function<void()>& run, int64_t times) const {
        wait();
        const auto start = std::chrono::steady_clock::now();
        for (int64_t i = 0; i < times; ++i) run();
        wait();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
               static_cast<double>(times);
    }

    double median_seconds(const std::function<void()>& run) const {
        seconds_of(run, 2);  // tables, workspaces, blocks of memory
        const auto times = static_cast<int64_t>(std::clamp(0.1 / seconds_of(run, 1), 1.0, 2000.0));
        std::vector<double> seconds;
        for (int i = 0; i < 5; ++i) seconds.push_back(seconds_of(run, times));
        std::sort(seconds.begin(), seconds.end());
        return seconds[2];
    }

    std::string only_;
    Device device_;
    double bandwidth_ = 0, rate_ = 0;
    Json results_ = Json::array();
};

class Inputs {
  public:
    explicit Inputs(Device device) : device_(device) {}
    // Cheap numbers in [-1, 1): a thousand drawn, repeated.
    Tensor operator()(const Shape& shape, bool wants_gradient = true) {
        std::vector<float> values(static_cast<size_t>(shape.numel()));
        for (size_t i = 0; i < values.size(); ++i)
            values[i] = 2 * uniform_from_bits(philox({seed_, 0}, i % 1021).v[0]) - 1;
        ++seed_;
        return Tensor::from(values, shape, device_).set_requires_grad(wants_gradient);
    }
    Tensor whole_numbers(const Shape& shape, int64_t below) {
        std::vector<int32_t> values(static_cast<size_t>(shape.numel()));
        for (size_t i = 0; i < values.size(); ++i)
            values[i] = static_cast<int32_t>(philox({seed_, 1}, i).v[0] % static_cast<uint32_t>(below));
        ++seed_;
        return Tensor::from(values, shape, device_);
    }

  private:
    Device device_;
    uint64_t seed_ = 1;
};

double size(const Tensor& t) {
    return static_cast<double>(t.bytes());
}

void ceilings(Bench& bench, Inputs& inputs, int64_t tokens) {
    const Tensor a = inputs({tokens, 4096}, false), b = a.clone();
    bench.add("ceiling: copy", {.bytes = 2 * size(a)}, [&] { b.copy_from(a); });
    const int64_t n = std::min<int64_t>(4096, tokens);
    const Tensor x = inputs({n, n}, false), y = inputs({n, n}, false);
    bench.add("ceiling: matrix product", {.flops = 2 * std::pow(static_cast<double>(n), 3)},
              [&] { matmul(x, y); });
}

void memory_bound(Bench& bench, Inputs& inputs, int64_t tokens, int64_t width) {
    const Tensor x = inputs({tokens, width}), gain = inputs({width}), bias = inputs({width});
    const double s = size(x);
    bench.add_op("rms_norm", {.bytes = 2 * s}, {.bytes = 5 * s}, [&] { return rms_norm(x, gain, 1e-6); });
    bench.add_op("layer_norm", {.bytes = 2 * s}, {.bytes = 5 * s},
                 [&] { return layer_norm(x, gain, bias, 1e-6); });
    bench.add_op("silu", {.bytes = 2 * s}, {.bytes = 5 * s}, [&] { return silu(x); });
    bench.add_op("dropout_add", {.bytes = 3 * s}, {.bytes = 5 * s}, [&] {
        return dropout_add(x, x, 0.1, {1, 2});
    });
    const Tensor heads = inputs({1, tokens, width / 64, 64});
    bench.add_op("rope", {.bytes = 2 * s}, {.bytes = 4 * s}, [&] { return rope(heads, {}); });
    const Tensor table = inputs({16384, width}), ids = inputs.whole_numbers({tokens}, 16384);
    bench.add_op("embedding", {.bytes = 2 * s}, {.bytes = 3 * s + size(table)},
                 [&] { return embedding(ids, table); });
    const Tensor logits = inputs({tokens, 16384}), targets = inputs.whole_numbers({tokens}, 16384);
    bench.add_op("cross_entropy", {.bytes = size(logits)}, {.bytes = 3 * size(logits)},
                 [&] { return cross_entropy(logits, targets); });
}

void experts(Bench& bench, Inputs& inputs, int64_t tokens, int64_t width) {
    const int64_t count = 8, slots = 2 * tokens;
    const Tensor x = inputs({slots, width});
    std::vector<Tensor> weights;
    for (int64_t e = 0; e < count; ++e) weights.push_back(inputs({2 * width, width}));
    const DispatchPlan plan = plan_dispatch(inputs.whole_numbers({tokens, 2}, count), count);
    const double flops = 4.0 * static_cast<double>(slots * width * width);
    bench.add_op("grouped_linear, 8 experts", {.flops = flops}, {.flops = 3 * flops},
                 [&] { return grouped_linear(x, plan, weights); });
    const Tensor logits = inputs({tokens, count});
    bench.add("moe_routing and plan", {.bytes = 2 * size(logits)}, [&] {
        const NoGrad guard;
        plan_dispatch(moe_routing(logits, 2).experts, count);
    });
}

// The medium preset's products at each precision that the device has, side by side: width 256, experts of 512,
// 4096 words. Experts get uneven shares of the rows, as routers give them.
void model_products(Bench& bench, Inputs& inputs, int64_t tokens, Device device) {
    const Tensor x = inputs({tokens, 256}), qkv = inputs({768, 256}), head = inputs({4096, 256});
    const Tensor tall = inputs({2 * tokens, 256});
    std::vector<Tensor> experts;
    for (int e = 0; e < 4; ++e) experts.push_back(inputs({512, 256}));
    std::vector<int32_t> chosen(static_cast<size_t>(2 * tokens));
    for (size_t i = 0; i < chosen.size(); ++i) chosen[i] = "0001112233"[i * 7 % 10] - '0';
    const DispatchPlan plan = plan_dispatch(Tensor::from(chosen, {2 * tokens, 1}, device), 4);
    const Tensor square = inputs({256, 256}), wide = inputs({256, 512});
    const auto flops = [](int64_t m, int64_t n, int64_t k) { return 2.0 * static_cast<double>(m * n * k); };
    const auto add = [&](const std::string& name, double cost, const std::function<Tensor()>& run) {
        const Precision before = precision();
        for (const auto& [each, label] : enum_names<Precision>) {
            if (device.is_cpu() && each == Precision::tf32) continue;
            set_precision(each);
            bench.add_op(fmt::format("{}, {}", name, label), {.flops = cost}, {.flops = 3 * cost}, run);
        }
        set_precision(before);
    };
    add("linear 256-768", flops(tokens, 768, 256), [&] { return linear(x, qkv); });
    add("head 256-4096", flops(tokens, 4096, 256), [&] { return linear(x, head); });
    add("4 uneven experts 256-512", flops(2 * tokens, 512, 256),
        [&] { return grouped_linear(tall, plan, experts); });
    add("muon's 256x256x512", flops(256, 512, 256), [&] { return matmul(square, wide); });
}

void attention(Bench& bench, Inputs& inputs, int64_t length) {
    const int64_t heads = 16, dim = 64, k = std::min<int64_t>(512, length), indexer_heads = 32,
                  indexer_dim = 128;
    const Tensor q = inputs({1, heads, length, dim}), key = inputs({1, heads, length, dim});
    const Tensor v = inputs({1, heads, length, dim});
    const auto pairs = static_cast<double>(length * (length + 1) / 2);
    const double dense = 4 * pairs * heads * dim, kept = static_cast<double>(length * k),
                 sparse = 4 * kept * heads * dim;
    const std::string at = fmt::format(", T = {}", length);
    bench.add_op("dense_attention" + at, {.flops = dense}, {.flops = 3.5 * dense},
                 [&] { return dense_attention(q, key, v, 0.125).out; });
    const Tensor iq = inputs({1, length, indexer_heads, indexer_dim}), ik = inputs({1, length, indexer_dim});
    const Tensor iw = inputs({1, length, indexer_heads});
    const double scores = 2 * pairs * indexer_heads * indexer_dim;
    bench.add(fmt::format("indexer_select{}, k = {}", at, k), {.flops = scores}, [&] {
        indexer_select({iq, ik, iw, 1}, k);
    });
    const Selection selection = indexer_select({iq, ik, iw, 1}, k);
    const double gathered = 2 * kept * heads * dim * 4;
    bench.add_op(fmt::format("sparse_attention{}, k = {}", at, k), {.bytes = gathered, .flops = sparse},
                 {.bytes = 3.5 * gathered, .flops = 3.5 * sparse},
                 [&] { return sparse_attention(q, key, v, selection, 0.125).out; });
    const double indexer_pairs = 2 * kept * indexer_heads * indexer_dim;
    bench.add("indexer_kl_sparse" + at, {.flops = 3 * indexer_pairs + sparse / 2}, [&] {
        indexer_kl_sparse({iq, ik, iw, 1}, {q, key, 0.125}, selection);
    });
    bench.add("indexer_kl_dense" + at, {.flops = 4 * scores + dense / 2}, [&] {
        indexer_kl_dense({iq, ik, iw, 1}, {q, key, 0.125});
    });
}

void optimisers(Bench& bench, Inputs& inputs, int64_t width) {
    NamedTensors parameters;
    for (int i = 0; i < 24; ++i) {
        parameters.push_back({fmt::format("matrix{}", i), inputs({4 * width, width})});
        parameters.back().tensor.set_grad(inputs({4 * width, width}, false));
    }
    double bytes = 0, flops = 0;
    for (const NamedTensor& p : parameters) {
        bytes += size(p.tensor);
        flops += 5 * (2 + 1 + 1) * static_cast<double>(p.tensor.numel() * width);
    }
    AdamW adamw(parameters, {});
    bench.add("adamw, 24 matrices", {.bytes = 7 * bytes}, [&] { adamw.step(1e-9); });
    bench.add("clip_gradients, 24 matrices", {.bytes = bytes}, [&] { clip_gradients(parameters, 1e9); });
    Muon muon(parameters, {});
    bench.add("muon, 24 matrices", {.bytes = 5 * bytes, .flops = flops}, [&] { muon.step(1e-9); });
}

int main_of(int argc, char** argv) {
    Arguments a;
    ToolCommand command("bench_kernels",
                        "Times every op on one device beside its bandwidth and matrix rate.");
    command.option("device", a.config.device, "auto, cpu or cuda");
    command.option("precision", a.config.precision, "auto, fp32, bf16 or tf32 (on a GPU)");
    command.option("tokens", a.tokens,
                   "rows of the activations, length of attention; 0: 8192 on a GPU, 1024 on a CPU");
    command.option("width", a.width, "model width, a multiple of 64");
    command.option("only", a.only, "run only the ops whose name contains this");
    command.option("threads", a.threads, "0: all cores");
    command.option("output", a.output, "also write the numbers to this JSON file");
    if (!command.parse(argc, argv)) return 0;
    constexpr int64_t largest = 1 << 24;
    if (a.width < 64 || a.width > largest || a.width % 64)
        fail_usage(fmt::format("width: {}, want a multiple of 64, at most {}", a.width, largest));
    if (a.tokens < 0 || a.tokens > largest)
        fail_usage(fmt::format("tokens: {}, want 0 to {}", a.tokens, largest));
    if (a.threads) set_thread_count(a.threads);
    validate(a.config);
    const Device device = choose_device(a.config);
    const int64_t tokens = a.tokens ? a.tokens : device.is_cpu() ? 1024 : 8192;
    fmt::print("{}\n{:<34} {:>13} {:>14} {:>6} {:>19} {:>6}\n", describe(device), "op", "time", "", "copy",
               "", "matmul");
    Bench bench(a, device);
    Inputs inputs(device);
    ceilings(bench, inputs, tokens);
    memory_bound(bench, inputs, tokens, a.width);
    experts(bench, inputs, tokens, a.width);
    model_products(bench, inputs, tokens, device);
    attention(bench, inputs, tokens);
    optimisers(bench, inputs, a.width);
    if (!a.output.empty())
        write_json_atomic(a.output, Json{{"device", describe(device)},
                                         {"tokens", tokens},
                                         {"width", a.width},
                                         {"ops", bench.results()}});
    return 0;
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    const sieve::SizeFlags flags{{sieve::SizeKind::batch, "--tokens"}, {sieve::SizeKind::width, "--width"}};
    return sieve::run_program("bench_kernels", flags, [&] { return sieve::main_of(argc, argv); });
}
