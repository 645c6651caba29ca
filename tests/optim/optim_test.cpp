#include <cmath>
#include <limits>
#include <numbers>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/cuda/runtime.h"
#include "framework/core/threads.h"
#include "framework/optim/clip.h"
#include "framework/optim/hybrid.h"
#include "framework/optim/schedule.h"
#include "tests/support/precision_scope.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

struct Trajectory {
    std::string name;
    Shape shape;
    std::vector<std::vector<double>> values;  // the parameter after each step
};

struct NamedValues {
    std::string name;
    Shape shape;
    std::vector<double> values;
};

#include "tests/optim/trajectories.inc"

// The numbers of pattern() in tests/pytorch/optim_trajectories.py.
Tensor pattern(const Shape& shape, int64_t seed, DType dtype = DType::float64) {
    const Tensor t = Tensor::empty(shape, DType::float64);
    for (int64_t i = 0; i < t.numel(); ++i)
        t.data<double>()[i] = static_cast<double>((i * i * 31 + i * 57 + seed * 101) % 127 - 63) / 64;
    return t.to(dtype);
}

void set_gradient(const NamedTensor& p, int64_t seed, int64_t step) {
    const Tensor& t = p.tensor;
    const bool none = (step + seed) % 5 == 4;
    t.set_grad(none ? Tensor() : pattern(t.shape(), 1000 + 37 * seed + 11 * step, t.dtype()).to(t.device()));
}

// One parameter, with the rates of the script: rate, 2 rate, 3 rate, rate, ...
template <class Optimizer, class Config>
void check_trajectory(const Trajectory& t, const Config& config, double rate, DType dtype, double tolerance,
                      Device device) {
    INFO(t.name << " " << name_of(dtype));
    const NamedTensor p{t.name, pattern(t.shape, 7, dtype).to(device).set_requires_grad(true)};
    Optimizer optimizer({p}, config);
    REQUIRE(t.values.size() >= 10);
    for (size_t step = 0; step < t.values.size(); ++step) {
        set_gradient(p, 2, static_cast<int64_t>(step));
        optimizer.step(rate * static_cast<double>(1 + step % 3));
        CHECK(relative_difference(p.tensor, Tensor::from(t.values[step], t.shape)) < tolerance);
    }
}

NamedTensors recipe_parameters(DType dtype = DType::float64, Device device = {}) {
    NamedTensors parameters;
    for (size_t i = 0; i < recipe_values.size(); ++i)
        parameters.push_back(
            {recipe_values[i].name, pattern(recipe_values[i].shape, static_cast<int64_t>(i), dtype)
                                        .to(device)
                                        .set_requires_grad(true)});
    return parameters;
}

double recipe_step(const NamedTensors& parameters, HybridOptimizer& optimizer, int64_t step) {
    for (size_t i = 0; i < parameters.size(); ++i) set_gradient(parameters[i], static_cast<int64_t>(i), step);
    const double norm = clip_gradients(parameters, 4.5).item();
    optimizer.step(scheduled_learning_rate(step, 48, 0.03));
    return norm;
}

Tensor product(const Tensor& a, const Tensor& b, bool transpose_b) {
    const int64_t rows = a.dim(0), inner = a.dim(1), cols = transpose_b ? b.dim(0) : b.dim(1);
    const Tensor c = Tensor::zeros({rows, cols}, DType::float64);
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j)
            for (int64_t k = 0; k < inner; ++k)
                c.data<double>()[i * cols + j] +=
                    a.data<double>()[i * inner + k] *
                    b.data<double>()[transpose_b ? j * inner + k : k * cols + j];
    return c;
}

Tensor combine(double a, const Tensor& x, double b, const Tensor& y) {
    const Tensor z = Tensor::empty(x.shape(), DType::float64);
    for (int64_t i = 0; i < z.numel(); ++i)
        z.data<double>()[i] = a * x.data<double>()[i] + b * y.data<double>()[i];
    return z;
}

// Muon's first step from zero, with momentum 0.95: the gradient's direction is the update's. Literal
// Newton-Schulz.
Tensor first_muon_update(const Tensor& grad) {
    double squares = 0;
    for (const double g : grad.to_vector<double>()) squares += g * g;
    const double lerp = 0.05 + 0.95 * 0.05;  // u = g + 0.95 (0.05 g - g)
    Tensor x = combine(lerp / (lerp * std::sqrt(squares) + 1e-7), grad, 0, grad);
    for (int i = 0; i < 5; ++i) {
        const Tensor a = product(x, x, true);
        x = combine(3.4445, x, 1, product(combine(-4.7750, a, 2.0315, product(a, a, false)), x, false));
    }
    const double ratio = static_cast<double>(x.dim(0)) / static_cast<double>(x.dim(1));
    return combine(-std::sqrt(std::max(1.0, ratio)), x, 0, x);
}

Tensor muon_update(const Tensor& grad, Device device) {
    const NamedTensor p{"w", Tensor::zeros(grad.shape(), grad.dtype(), device).set_requires_grad(true)};
    p.tensor.set_grad(grad.to(device));
    Muon muon({p}, {});
    muon.step(1.0);
    return p.tensor;
}

// Parameters of many sizes, more than one list of the CUDA kernels holds; every seventh without a gradient.
NamedTensors many_parameters(size_t count, int rank, DType dtype, Device device) {
    NamedTensors parameters;
    for (size_t i = 0; i < count; ++i) {
        const auto size = static_cast<int64_t>(i);
        const Shape shape = rank == 2 ? Shape{1 + size % 2, 3 - size % 2} : Shape{size * 37 % 311};
        parameters.push_back(
            {"w" + std::to_string(i), random_normal(shape, i, dtype).to(device).set_requires_grad(true)});
        if (i % 7 != 6) parameters[i].tensor.set_grad(random_normal(shape, 1000 + i, dtype).to(device));
    }
    return parameters;
}

template <class Optimizer>
std::vector<Tensor> stepped(const NamedTensors& parameters) {
    Optimizer optimizer(parameters, {});
    for (int i = 0; i < 2; ++i) optimizer.step(0.01);
    std::vector<Tensor> results;
    for (const NamedTensor& p : parameters) results.push_back(p.tensor);
    for (const auto& [name, tensor] : optimizer.state()) results.push_back(tensor);
    return results;
}

// What a step may change, as it is now.
std::vector<Tensor> snapshot(const NamedTensors& parameters, const HybridOptimizer& optimizer) {
    std::vector<Tensor> copies;
    for (const NamedTensor& p : parameters) copies.push_back(p.tensor.clone());
    for (const auto& [name, tensor] : optimizer.state()) copies.push_back(tensor.clone());
    return copies;
}

bool all_identical(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    bool same = a.size() == b.size();
    for (size_t i = 0; same && i < a.size(); ++i) same = bit_identical(a[i], b[i]);
    return same;
}

}  // namespace

DEVICE_TEST_CASE("adamw: PyTorch's trajectory", device) {
    REQUIRE(adamw_trajectories.size() == 2);
    for (const DType dtype : {DType::float64, DType::float32}) {
        const double tolerance = dtype == DType::float64 ? 1e-14 : 1e-6;
        check_trajectory<AdamW>(adamw_trajectories[0], AdamWConfig{.weight_decay = 0}, 0.01, dtype, tolerance,
                                device);
        check_trajectory<AdamW>(adamw_trajectories[1], AdamWConfig{.weight_decay = 0.1}, 0.01, dtype,
                                tolerance, device);
    }
}

TEST_CASE("adamw: a long parameter is treated like its parts, with any number of threads") {
    const int threads = thread_count();
    const Tensor start = random_normal({70001}, 71, DType::float32),
                 grad = random_normal({70001}, 72, DType::float32);
    const auto stepped = [&](int count, int64_t size) {
        set_thread_count(count);
        const NamedTensor p{"w", start.rows(0, size).clone().set_requires_grad(true)};
        AdamW optimizer({p}, {});
        for (int i = 0; i < 3; ++i) {
            p.tensor.set_grad(grad.rows(0, size).clone());
            optimizer.step(0.01);
        }
        return p.tensor;
    };
    const Tensor whole = stepped(1, 70001);
    CHECK(bit_identical(stepped(2, 70001), whole));
    for (const int64_t size : {1, 31, 33, 4097}) CHECK(bit_identical(stepped(2, size), whole.rows(0, size)));
    set_thread_count(threads);
}

DEVICE_TEST_CASE("optimisers: many parameters follow the CPU", device) {
    if (device.is_cpu()) return;
    for (const DType dtype : {DType::float32, DType::float64}) {
        const double bound = dtype == DType::float32 ? 1e-11 : 1e-26;
        const std::vector<Tensor> want = stepped<AdamW>(many_parameters(130, 1, dtype, Device{}));
        const std::vector<Tensor> got = stepped<AdamW>(many_parameters(130, 1, dtype, device));
        for (size_t i = 0; i < want.size(); ++i) CHECK(normalised_squared_error(got[i], want[i]) <= bound);
        const std::vector<Tensor> muon_want = stepped<Muon>(many_parameters(140, 2, dtype, Device{}));
        const std::vector<Tensor> muon_got = stepped<Muon>(many_parameters(140, 2, dtype, device));
        for (size_t i = 0; i < muon_want.size(); ++i)
            CHECK(normalised_squared_error(muon_got[i], muon_want[i]) <= 10 * bound);
        CHECK(all_identical(muon_got, stepped<Muon>(many_parameters(140, 2, dtype, device))));
    }
}

DEVICE_TEST_CASE("muon: PyTorch's trajectory", device) {
    REQUIRE(muon_trajectories.size() == 5);
    for (const Trajectory& t : muon_trajectories) {
        check_trajectory<Muon>(t, MuonConfig{}, 0.02, DType::float64, 1e-11, device);
        check_trajectory<Muon>(t, MuonConfig{}, 0.02, DType::float32, 2e-5, device);
    }
}

DEVICE_TEST_CASE("muon: shapes of several panels against the literal iteration", device) {
    for (const Shape& shape :
         {Shape{63, 65}, Shape{64, 64}, Shape{65, 65}, Shape{130, 70}, Shape{70, 150}, Shape{4, 97}}) {
        INFO(to_string(shape));
        const Tensor grad = random_normal(shape, 73), want = first_muon_update(grad);
        CHECK(relative_difference(muon_update(grad, device), want) < 1e-11);
        CHECK(relative_difference(muon_update(grad.to(DType::float32), device), want) < 1e-4);
    }
}

DEVICE_TEST_CASE("muon: gradients of low rank, whose small singular values are rounding noise", device) {
    for (const Shape& shape : {Shape{90, 200}, Shape{200, 90}, Shape{90, 90}}) {
        INFO(to_string(shape));
        const Tensor grad = product(random_normal({shape[0], 5}, 74), random_normal({shape[1], 5}, 75), true);
        const Tensor want = first_muon_update(grad);
        CHECK(relative_difference(muon_update(grad, device), want) < 1e-10);
        // The cast itself puts noise where singular values are 0, and each iteration enlarges it by 3.4.
        CHECK(relative_difference(muon_update(grad.to(DType::float32), device), want) < 3e-4);
    }
    for (const float value : muon_update(Tensor::zeros({8, 12}), device).to_vector<float>())
        CHECK(value == 0.0f);
}

TEST_CASE("muon: at bf16 an update is as near to the exact one as rounded products allow") {
    for (const Shape& shape :
         {Shape{64, 64}, Shape{130, 70}, Shape{70, 150}, Shape{4, 97}, Shape{256, 256}}) {
        INFO(to_string(shape));
        const Tensor grad = random_normal(shape, 73), want = first_muon_update(grad);
        const PrecisionScope bf16(Precision::bf16);
        const double error = normalised_squared_error(muon_update(grad.to(DType::float32), Device{}), want);
        CHECK(error <
              (shape[0] < 64 ? 0.03 : 3e-3));  // as bfloat16's literal iteration, which the original runs
        CHECK(error > 1e-6);
        CHECK(relative_difference(muon_update(grad, Device{}), want) < 1e-11);  // float64 is exact
    }
    const Tensor grad = product(random_normal({90, 5}, 74), random_normal({200, 5}, 75), true);
    const Tensor want = first_muon_update(grad);
    const PrecisionScope bf16(Precision::bf16);
    // What is 0 but for rounding grows up to 480 times. So it does in the literal iteration (0.17).
    CHECK(normalised_squared_error(muon_update(grad.to(DType::float32), Device{}), want) < 0.25);
    for (uint64_t seed = 0; seed < 20;
         ++seed) {  // with three iterations on A some become 10 to 400 times larger
        const Tensor spread =
            combine(1, product(random_normal({8, 1}, seed), random_normal({32, 1}, seed + 50), true), 0.1,
                    random_normal({8, 32}, seed + 100));
        const Tensor exact = first_muon_update(spread);
        CHECK(normalised_squared_error(muon_update(spread.to(DType::float32), Device{}), exact) < 0.02);
    }
    for (const float value : muon_update(Tensor::zeros({8, 12}, DType::float32), Device{}).to_vector<float>())
        CHECK(value == 0.0f);
}

TEST_CASE("muon: the bits do not depend on the threads, and steady steps take no memory from the system") {
    const int threads = thread_count();
    std::vector<std::vector<Tensor>> results;
    for (const int count : {1, 2, 2}) {
        set_thread_count(count);
        NamedTensors parameters;
        for (const Shape& shape :
             {Shape{96, 32}, Shape{64, 130}, Shape{70, 70}, Shape{4, 32}, Shape{130, 64}})
            parameters.push_back({"w" + std::to_string(parameters.size()),
                                  random_normal(shape, 76, DType::float32).set_requires_grad(true)});
        Muon muon(parameters, {});
        int64_t calls = 0;
        for (int step = 0; step < 4; ++step) {
            for (const NamedTensor& p : parameters)
                p.tensor.set_grad(
                    random_normal(p.tensor.shape(), 77 + static_cast<uint64_t>(step), DType::float32));
            if (step == 3) calls = memory_stats().system_calls;
            muon.step(0.02);
        }
        if (count == 1) CHECK(memory_stats().system_calls == calls);
        results.emplace_back();
        for (const NamedTensor& p : parameters) results.back().push_back(p.tensor);
    }
    set_thread_count(threads);
    for (size_t i = 0; i < results[0].size(); ++i) {
        CHECK(bit_identical(results[0][i], results[1][i]));
        CHECK(bit_identical(results[1][i], results[2][i]));
    }
}

DEVICE_TEST_CASE("muon: matrices packed in one parameter have the bits of parameters of their own", device) {
    const std::vector<int64_t> rows{31, 8, 8, 1};
    for (const DType dtype : {DType::float32, DType::float64}) {
        const auto gradient = [&](uint64_t step) {
            return random_normal({48, 20}, 80 + step, dtype).to(device);
        };
        const NamedTensor whole{"qkv", random_normal({48, 20}, 79, dtype).to(device).set_requires_grad(true)};
        NamedTensors parts;
        for (int64_t first = 0; const int64_t count : rows) {
            parts.push_back({"part" + std::to_string(first),
                             whole.tensor.rows(first, first + count).clone().set_requires_grad(true)});
            first += count;
        }
        Muon packed({whole}, {.packed_rows = [&](const std::string& name) {
                        return name == "qkv" ? rows : std::vector<int64_t>();
                    }});
        Muon separate(parts, {});
        for (uint64_t step = 0; step < 3; ++step) {
            whole.tensor.set_grad(gradient(step));
            for (int64_t first = 0; const NamedTensor& p : parts) {
                p.tensor.set_grad(gradient(step).rows(first, first + p.tensor.dim(0)).clone());
                first += p.tensor.dim(0);
            }
            packed.step(0.02);
            separate.step(0.02);
        }
        for (int64_t first = 0; const NamedTensor& p : parts) {
            CHECK(bit_identical(whole.tensor.rows(first, first + p.tensor.dim(0)), p.tensor));
            first += p.tensor.dim(0);
        }
        CHECK(packed.state().size() == 1);
        CHECK(packed.state()[0].tensor.shape() == Shape{48, 20});
    }
    check_error("muon: qkv has 48 rows, but its matrices have 40", [] {
        Muon({{"qkv", Tensor::zeros({48, 20})}}, {.packed_rows = [](const std::string&) {
                 return std::vector<int64_t>{20, 20};
             }});
    });
}

TEST_CASE("hybrid optimizer: which parameter goes where") {
    const auto hidden = [](const std::string& name, const Shape& shape) {
        return is_hidden_matrix({name, Tensor::zeros(shape)});
    };
    CHECK(hidden("blocks.0.attention.qkv.weight", {6, 2}));
    CHECK(hidden("blocks.0.feed_forward.router.gate.weight", {4, 2}));
    CHECK(hidden("blocks.0.attention.indexer.k_proj.weight", {4, 2}));
    CHECK(!hidden("embed.weight", {6, 2}));
    CHECK(!hidden("lm_head.weight", {6, 2}));
    CHECK(!hidden("blocks.0.attention.indexer.k_norm.weight", {4, 2}));
    CHECK(!hidden("blocks.0.norm1.weight", {4}));
    CHECK(!hidden("blocks.0.attention.indexer.bias", {4}));
}

// Muon takes the size out of a gradient, AdamW's first step too; after two gradients of different sizes AdamW's
// average remembers them.
TEST_CASE("hybrid optimizer: without muon_gates the routers' gates are AdamW's") {
    const Tensor start = random_normal({4, 6}, 91), first = random_normal({4, 6}, 92),
                 second = random_normal({4, 6}, 93);
    const auto trained = [&](auto&& optimizer_of, double rate) {
        const NamedTensor p{"blocks.0.feed_forward.router.gate.weight",
                            start.clone().set_requires_grad(true)};
        auto optimizer = optimizer_of(NamedTensors{p});
        for (const Tensor& grad : {first, second}) {
            p.tensor.set_grad(grad.clone());
            optimizer.step(rate);
        }
        return p.tensor;
    };
    const auto hybrid = [](bool muon_gates) {
        return [=](const NamedTensors& p) {
            return HybridOptimizer(p, {.weight_decay = 0.1, .muon_gates = muon_gates});
        };
    };
    const Tensor adamw =
        trained([](const NamedTensors& p) { return AdamW(p, {.weight_decay = 0.1}); }, 0.1 * 0.02);
    const Tensor muon = trained([](const NamedTensors& p) { return Muon(p, {}); }, 0.02);
    CHECK(bit_identical(trained(hybrid(false), 0.02), adamw));
    CHECK(bit_identical(trained(hybrid(true), 0.02), muon));
}

DEVICE_TEST_CASE("recipe: clipping, schedule, Muon and AdamW together follow PyTorch", device) {
    const NamedTensors parameters = recipe_parameters(DType::float64, device);
    HybridOptimizer optimizer(parameters, {.weight_decay = 0.1});
    for (size_t step = 0; step < recipe_norms.size(); ++step)
        CHECK(recipe_step(parameters, optimizer, static_cast<int64_t>(step)) ==
              doctest::Approx(recipe_norms[step]).epsilon(1e-14));
    for (size_t i = 0; i < parameters.size(); ++i) {
        INFO(parameters[i].name);
        CHECK(relative_difference(parameters[i].tensor,
                                  Tensor::from(recipe_values[i].values, recipe_values[i].shape)) < 1e-11);
    }
}

DEVICE_TEST_CASE("hybrid optimizer: without Muon every parameter has AdamW's bits", device) {
    const NamedTensors parameters = recipe_parameters(DType::float64, device),
                       expected = recipe_parameters(DType::float64, device);
    HybridOptimizer optimizer(parameters, {.weight_decay = 0.1, .use_muon = false});
    AdamW adamw(expected, {.weight_decay = 0.1});
    for (int64_t step = 0; step < 3; ++step) {
        recipe_step(parameters, optimizer, step);
        for (size_t i = 0; i < expected.size(); ++i) set_gradient(expected[i], static_cast<int64_t>(i), step);
        clip_gradients(expected, 4.5);
        adamw.step(0.1 * scheduled_learning_rate(step, 48, 0.03));
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
        INFO(parameters[i].name);
        CHECK(bit_identical(parameters[i].tensor, expected[i].tensor));
    }
}

DEVICE_TEST_CASE("hybrid optimizer: a resumed run has the same bits", device) {
    for (const DType dtype : {DType::float32, DType::float64}) {
        const NamedTensors straight = recipe_parameters(dtype, device);
        const NamedTensors first = recipe_parameters(dtype, device);
        HybridOptimizer one(straight, {.weight_decay = 0.1}), two(first, {.weight_decay = 0.1});
        for (int64_t step = 0; step < 10; ++step) recipe_step(straight, one, step);
        for (int64_t step = 0; step < 5; ++step) recipe_step(first, two, step);

        NamedTensors second;
        for (const NamedTensor& p : first)
            second.push_back({p.name, p.tensor.clone().set_requires_grad(true)});
        NamedTensors saved;
        for (const auto& [name, tensor] : two.state())
            saved.push_back({name, tensor.clone().to(Device{})});  // as it comes from a file
        HybridOptimizer three(second, {.weight_decay = 0.1});
        three.load_state(saved);
        for (int64_t step = 5; step < 10; ++step) recipe_step(second, three, step);
        for (size_t i = 0; i < straight.size(); ++i)
            CHECK(bit_identical(straight[i].tensor, second[i].tensor));
        const NamedTensors end = one.state(), resumed = three.state();
        REQUIRE(end.size() == resumed.size());
        for (size_t i = 0; i < end.size(); ++i) {
            CHECK(end[i].name == resumed[i].name);
            CHECK(bit_identical(end[i].tensor, resumed[i].tensor));
        }
    }
}

TEST_CASE("optimizer state: what does not fit is refused by name") {
    HybridOptimizer optimizer(recipe_parameters(), {});
    const NamedTensors good = optimizer.state();
    NamedTensors bad(good.begin() + 1, good.end());
    check_error("optimizer state: has no " + good[0].name, [&] { optimizer.load_state(bad); });
    bad = good;
    bad.push_back({"other.exp_avg", Tensor::zeros({1})});
    check_error("optimizer state: other.exp_avg belongs to no parameter of this optimiser",
                [&] { optimizer.load_state(bad); });
    bad = good;
    bad.push_back(good[0]);
    check_error("optimizer state: a name occurs twice", [&] { optimizer.load_state(bad); });
    bad = good;
    bad[0].tensor = Tensor::zeros({2, 2});
    check_error("optimizer state: blocks.0.qkv.weight.momentum_buffer is [2,2] float32, want [7,4] float64",
                [&] { optimizer.load_state(bad); });
    check_error("muon: x is [3], want 2 dims", [] { Muon({{"x", Tensor::zeros({3})}}, {}); });
}

DEVICE_TEST_CASE("hybrid optimizer: a guard that is not finite changes nothing", device) {
    const auto scalar = [&](double value) { return Tensor::full({}, value, DType::float64, device); };
    const NamedTensors parameters = recipe_parameters(DType::float32, device);
    const NamedTensors unguarded = recipe_parameters(DType::float32, device);
    HybridOptimizer optimizer(parameters, {}), other(unguarded, {});
    recipe_step(parameters, optimizer, 0);
    recipe_step(unguarded, other, 0);
    const std::vector<Tensor> before = snapshot(parameters, optimizer);
    for (const double bad :
         {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
        optimizer.prepare(0.1);
        optimizer.apply(scalar(bad));
        CHECK(all_identical(snapshot(parameters, optimizer), before));
    }
    optimizer.prepare(0.1);
    optimizer.apply(scalar(1e300));
    other.step(0.1);
    CHECK(all_identical(snapshot(parameters, optimizer), snapshot(unguarded, other)));
    CHECK(!all_identical(snapshot(parameters, optimizer), before));
    check_error("muon: guard is [1], want []",
                [&] { optimizer.apply(Tensor::zeros({1}, DType::float64, device)); });
}

DEVICE_TEST_CASE("hybrid optimizer: a recorded step runs again with other learning rates", device) {
    if (device.is_cpu()) return;
    const NamedTensors parameters = recipe_parameters(DType::float32, device);
    const NamedTensors replayed = recipe_parameters(DType::float32, device);
    for (const auto* group : {&parameters, &replayed})
        for (size_t i = 0; i < group->size(); ++i) set_gradient((*group)[i], static_cast<int64_t>(i), 0);
    HybridOptimizer optimizer(parameters, {}), recorded(replayed, {});
    const auto rate = [](int step) { return 0.01 * (1 + step % 3); };
    const MemoryPool pool(device);
    const auto step_of_recorded = [&] {
        const MemoryPool::Scope scope(pool);
        recorded.apply(clip_gradients(replayed, 1e9));
    };
    recorded.prepare(rate(0));
    step_of_recorded();  // fills the pool
    cuda::begin_capture();
    step_of_recorded();
    cuda::Graph* graph = cuda::end_capture();
    for (int step = 1; step < 4; ++step) {
        recorded.prepare(rate(step));
        cuda::launch_graph(graph);
    }
    for (int step = 0; step < 4; ++step) optimizer.step(rate(step));
    CHECK(all_identical(snapshot(replayed, recorded), snapshot(parameters, optimizer)));
    cuda::destroy_graph(graph);
}

DEVICE_TEST_CASE("hybrid optimizer: zero_grad leaves no gradient and then a step changes nothing", device) {
    const NamedTensors parameters = recipe_parameters(DType::float64, device);
    HybridOptimizer optimizer(parameters, {.weight_decay = 0.1});
    recipe_step(parameters, optimizer, 0);
    optimizer.zero_grad();
    std::vector<Tensor> before;
    for (const NamedTensor& p : parameters) before.push_back(p.tensor.clone());
    optimizer.step(0.1);
    for (size_t i = 0; i < parameters.size(); ++i) {
        CHECK(!parameters[i].tensor.grad().defined());
        CHECK(bit_identical(parameters[i].tensor, before[i]));
    }
    CHECK(clip_gradients(parameters, 1.0).item() == 0.0);
    CHECK(clip_gradients({}, 1.0).item() == 0.0);
}

DEVICE_TEST_CASE("optimisers: parameters and guards of another dtype or on another device are refused",
                 device) {
    const Tensor w = Tensor::zeros({2, 2}, DType::float32, device);
    const Tensor wide = w.to(DType::float64), counts = w.to(DType::int32);
    check_error("adamw: needs float32 or float64, has int32", [&] { AdamW({{"w", w}, {"n", counts}}, {}); });
    check_error("muon: v is float64, want float32", [&] { Muon({{"w", w}, {"v", wide}}, {}); });
    AdamW adamw({{"w", w}}, {});
    Muon muon({{"w", w}}, {});
    check_error("adamw: guard is float32, want float64", [&] { adamw.apply(Tensor::zeros({})); });
    check_error("muon: guard is float32, want float64", [&] { muon.apply(Tensor::zeros({})); });
    if (device.is_cpu()) return;
    const std::string wanted = " is on cpu, want " + to_string(device) + ", where the first parameter is";
    const Tensor guard = Tensor::zeros({}, DType::float64);
    check_error("adamw: v" + wanted, [&] { AdamW({{"w", w}, {"v", w.to(Device{})}}, {}); });
    check_error("muon: v" + wanted, [&] { Muon({{"w", w}, {"v", w.to(Device{})}}, {}); });
    check_error("adamw: guard" + wanted, [&] { adamw.apply(guard); });
    check_error("muon: guard" + wanted, [&] { muon.apply(guard); });
}

DEVICE_TEST_CASE("clip_gradients: many gradients of many sizes follow the CPU", device) {
    const size_t count = is_emulated(device) ? 200 : 400;
    for (const DType dtype : {DType::float32, DType::float64})
        for (const double max_norm : {0.5, 1e9}) {
            const NamedTensors want = many_parameters(count, 1, dtype, Device{});
            const NamedTensors got = many_parameters(count, 1, dtype, device);
            want[5].tensor.set_grad({});
            got[5].tensor.set_grad({});
            const Tensor norm = clip_gradients(got, max_norm);
            CHECK(norm.device() == device);
            CHECK(norm.item() == doctest::Approx(clip_gradients(want, max_norm).item()).epsilon(1e-13));
            for (size_t i = 0; i < want.size(); ++i) {
                if (!want[i].tensor.grad().defined()) continue;
                CHECK(normalised_squared_error(got[i].tensor.grad(), want[i].tensor.grad()) <= 1e-13);
            }
        }
}

DEVICE_TEST_CASE("clip_gradients: a norm above the limit becomes the limit, one below stays to the bit",
                 device) {
    const Tensor a = Tensor::from(std::vector<double>{3, 0, 0}, {3}),
                 b = Tensor::from(std::vector<double>{0, 4}, {2});
    for (const double limit : {0.5, 4.99, 5.01, 100.0}) {
        INFO("limit " << limit);
        NamedTensors parameters{{"a", Tensor::zeros({3}, DType::float64, device)},
                                {"b", Tensor::zeros({2}, DType::float64, device)}};
        parameters[0].tensor.set_grad(a.clone().to(device));
        parameters[1].tensor.set_grad(b.clone().to(device));
        CHECK(clip_gradients(parameters, limit).item() == doctest::Approx(5).epsilon(1e-12));
        const double factor = limit < 5 ? limit / (5 + 1e-6) : 1;
        const std::vector<double> x = parameters[0].tensor.grad().to_vector<double>(),
                                  y = parameters[1].tensor.grad().to_vector<double>();
        CHECK(x[0] == doctest::Approx(3 * factor).epsilon(1e-12));
        CHECK(y[1] == doctest::Approx(4 * factor).epsilon(1e-12));
        if (limit > 5) CHECK((x[0] == 3 && y[1] == 4));
    }
}

TEST_CASE("clip_gradients: gradients of two dtypes are refused") {
    const NamedTensor a{"a", Tensor::zeros({3}).set_requires_grad(true)};
    const NamedTensor b{"b", Tensor::zeros({3}, DType::float64).set_requires_grad(true)};
    a.tensor.set_grad(Tensor::zeros({3}));
    b.tensor.set_grad(Tensor::zeros({3}, DType::float64));
    check_error("clip_gradients: b is float64, want float32", [&] { clip_gradients({a, b}, 1.0); });
}

DEVICE_TEST_CASE("clip_gradients: a norm that is not finite is returned and touches nothing", device) {
    for (const double bad :
         {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
        const NamedTensor p{"w", Tensor::zeros({3}, DType::float64, device).set_requires_grad(true)};
        p.tensor.set_grad(Tensor::from(std::vector<double>{3, bad, 4}, {3}, device));
        CHECK(!std::isfinite(clip_gradients({p}, 1.0).item()));
        const std::vector<double> grad = p.tensor.grad().to_vector<double>();
        CHECK(grad[0] == 3.0);
        CHECK(grad[2] == 4.0);
    }
}

TEST_CASE("clip_gradients: many chunks, any number of threads") {
    const int threads = thread_count();
    std::vector<Tensor> seen;
    for (const int count : {1, 2}) {
        set_thread_count(count);
        const NamedTensor p{"w", Tensor::zeros({100003}).set_requires_grad(true)};
        p.tensor.set_grad(Tensor::full({100003}, 2.0));
        CHECK(clip_gradients({p}, 1.0).item() == doctest::Approx(2 * std::sqrt(100003.0)).epsilon(1e-14));
        seen.push_back(p.tensor.grad());
        CHECK(clip_gradients({p}, 1e9).item() == doctest::Approx(1.0).epsilon(1e-6));
    }
    set_thread_count(threads);
    CHECK(bit_identical(seen[0], seen[1]));
}

TEST_CASE("scheduled_learning_rate: warm-up, cosine, and its ends") {
    CHECK(scheduled_learning_rate(0, 100, 2.0) == doctest::Approx(0.4));
    CHECK(scheduled_learning_rate(4, 100, 2.0) == doctest::Approx(2.0));
    CHECK(scheduled_learning_rate(5, 100, 2.0) == doctest::Approx(2.0));
    CHECK(scheduled_learning_rate(52, 100, 2.0) ==
          doctest::Approx(2.0 * (0.1 + 0.45 * (1 + std::cos(std::numbers::pi / 2)))));
    CHECK(scheduled_learning_rate(99, 100, 2.0) == doctest::Approx(0.2));
    CHECK(scheduled_learning_rate(150, 100, 2.0) == doctest::Approx(0.2));
    CHECK(scheduled_learning_rate(0, 1, 2.0) == doctest::Approx(2.0));
    CHECK(scheduled_learning_rate(0, 2, 2.0) == doctest::Approx(2.0));
    CHECK(scheduled_learning_rate(1, 2, 2.0) == doctest::Approx(0.2));
    for (int64_t step = 151; step < 3000; ++step)
        CHECK(scheduled_learning_rate(step, 3000, 1.0) <= scheduled_learning_rate(step - 1, 3000, 1.0));
}
