#include "tests/support/testing.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "framework/autograd/autograd.h"
#include "framework/core/error.h"
#include "tests/support/precision_scope.h"

namespace sieve::testing {

bool full_tests() {
    const char* full = std::getenv("SIEVE_FULL");
    return full && std::string(full) == "1";
}

Tensor random_normal(const Shape& shape, uint64_t seed, DType dtype, double scale) {
    const Tensor t = Tensor::empty(shape, DType::float64);
    double* data = t.data<double>();
    for (int64_t i = 0; i < t.numel(); ++i) data[i] = scale * normal_at({seed, 7}, static_cast<uint64_t>(i));
    return t.to(dtype);
}

Tensor random_uniform(const Shape& shape, uint64_t seed, double low, double high, DType dtype) {
    const Tensor t = Tensor::empty(shape, DType::float64);
    double* data = t.data<double>();
    for (int64_t i = 0; i < t.numel(); ++i) {
        const double u = philox({seed, 8}, static_cast<uint64_t>(i)).v[0] / 4294967296.0;
        data[i] = low + (high - low) * u;
    }
    return t.to(dtype);
}

Tensor random_tokens(const Shape& shape, uint64_t seed, int32_t vocabulary) {
    const Tensor t = Tensor::empty(shape, DType::int32);
    int32_t* data = t.data<int32_t>();
    for (int64_t i = 0; i < t.numel(); ++i)
        data[i] = static_cast<int32_t>(philox({seed, 9}, static_cast<uint64_t>(i)).v[0] %
                                       static_cast<uint32_t>(vocabulary));
    return t;
}

namespace {
Tensor on_host(const Tensor& t) {
    return t.to(Device{}).to(DType::float64);
}
}  // namespace

double max_abs_difference(const Tensor& a, const Tensor& b) {
    REQUIRE(a.shape() == b.shape());
    const Tensor a64 = on_host(a), b64 = on_host(b);
    double worst = 0;
    for (int64_t i = 0; i < a.numel(); ++i) {
        const double d = std::abs(a64.data<double>()[i] - b64.data<double>()[i]);
        if (!(d <= worst)) worst = d;  // also takes a NaN
    }
    return worst;
}

double relative_difference(const Tensor& a, const Tensor& b) {
    const Tensor b64 = on_host(b);
    double largest = 0;
    for (int64_t i = 0; i < b.numel(); ++i) largest = std::max(largest, std::abs(b64.data<double>()[i]));
    return max_abs_difference(a, b) / std::max(largest, 1e-30);
}

double normalised_squared_error(const Tensor& a, const Tensor& b) {
    REQUIRE(a.shape() == b.shape());
    const Tensor a64 = on_host(a), b64 = on_host(b);
    double error = 0, scale = 0;
    for (int64_t i = 0; i < a.numel(); ++i) {
        const double want = b64.data<double>()[i], difference = a64.data<double>()[i] - want;
        error += difference * difference;
        scale += want * want;
    }
    return error == 0 ? 0 : error / scale;
}

bool bit_identical(const Tensor& a, const Tensor& b) {
    if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
    const Tensor x = a.to(Device{}), y = b.to(Device{});
    return std::memcmp(x.raw(), y.raw(), static_cast<size_t>(x.bytes())) == 0;
}

namespace {

double weighted_sum(const std::vector<Tensor>& outputs, const std::vector<Tensor>& cotangents) {
    double sum = 0;
    for (size_t o = 0; o < outputs.size(); ++o) {
        const Tensor y = outputs[o].to(Device{});
        for (int64_t i = 0; i < y.numel(); ++i) sum += y.data<double>()[i] * cotangents[o].data<double>()[i];
    }
    return sum;
}

// Fresh leaves with the inputs' values, so that the caller's tensors keep no gradient.
std::vector<Tensor> fresh_leaves(const std::vector<Tensor>& inputs, Device device) {
    std::vector<Tensor> leaves;
    for (const Tensor& input : inputs) {
        leaves.push_back(input.defined() ? input.clone().to(device) : Tensor());
        if (input.requires_grad()) leaves.back().set_requires_grad(true);
    }
    return leaves;
}

Tensor numeric_gradient(const DifferentiableFunction& f, const std::vector<Tensor>& leaves, size_t which,
                        const std::vector<Tensor>& cotangents, double step) {
    const NoGrad guard;
    const Tensor gradient = Tensor::empty(leaves[which].shape(), DType::float64);
    const Tensor values = leaves[which].to(Device{}).clone();
    double* x = values.data<double>();
    const auto sum_with = [&](int64_t i, double value) {
        x[i] = value;
        leaves[which].copy_from(values);
        return weighted_sum(f(leaves), cotangents);
    };
    for (int64_t i = 0; i < gradient.numel(); ++i) {
        const double before = x[i];
        const double above = sum_with(i, before + step), below = sum_with(i, before - step);
        x[i] = before;
        gradient.data<double>()[i] = (above - below) / (2 * step);
    }
    leaves[which].copy_from(values);
    return gradient;
}

}  // namespace

void check_gradients(const std::string& what, const DifferentiableFunction& f,
                     const std::vector<Tensor>& inputs, const GradientCheck& options) {
    INFO(what);
    const std::vector<Tensor> leaves = fresh_leaves(inputs, options.device);
    std::vector<Tensor> starts(leaves.size());
    for (size_t i = 0; i < leaves.size(); ++i) {
        if (!leaves[i].requires_grad()) continue;
        REQUIRE_MESSAGE(leaves[i].dtype() == DType::float64, "gradient checks run in float64");
        starts[i] = random_normal(leaves[i].shape(), options.seed + 100 + i);
        leaves[i].set_grad(starts[i].clone().to(options.device));
    }
    std::vector<Tensor> roots, root_cotangents, cotangents;
    const std::vector<Tensor> outputs = f(leaves);
    for (size_t o = 0; o < outputs.size(); ++o) {
        cotangents.push_back(random_normal(outputs[o].shape(), options.seed + 200 + o));
        REQUIRE_MESSAGE(outputs[o].requires_grad(), "an output does not depend on any leaf");
        roots.push_back(outputs[o]);
        root_cotangents.push_back(cotangents[o].clone().to(options.device));
    }
    backward(roots, root_cotangents);

    for (size_t i = 0; i < leaves.size(); ++i) {
        if (!leaves[i].requires_grad()) continue;
        const Tensor numeric = numeric_gradient(f, leaves, i, cotangents, options.step);
        double largest = 1.0, worst = 0;
        for (int64_t j = 0; j < numeric.numel(); ++j)
            largest = std::max(largest, std::abs(numeric.data<double>()[j]));
        const Tensor grad = leaves[i].grad().to(Device{});
        for (int64_t j = 0; j < numeric.numel(); ++j) {
            const double analytic = grad.data<double>()[j] - starts[i].data<double>()[j];
            const double error = std::abs(analytic - numeric.data<double>()[j]);
            if (!(error <= worst)) worst = error;
        }
        INFO("input " << i << " " << to_string(leaves[i].shape()));
        CHECK(worst / largest <= options.tolerance);
    }
}

namespace {

// The outputs of f and then the gradients of its leaves.
std::vector<Tensor> run_on(const DifferentiableFunction& f, const std::vector<Tensor>& inputs,
                           Device device) {
    const std::vector<Tensor> leaves = fresh_leaves(inputs, device);
    std::vector<Tensor> results = f(leaves), roots, cotangents;
    for (size_t o = 0; o < results.size(); ++o) {
        if (!results[o].requires_grad()) continue;
        roots.push_back(results[o]);
        cotangents.push_back(random_normal(results[o].shape(), 300 + o, results[o].dtype()).to(device));
    }
    if (!roots.empty()) backward(roots, cotangents);
    for (const Tensor& leaf : leaves)
        if (leaf.defined() && leaf.grad().defined()) results.push_back(leaf.grad());
    return results;
}

}  // namespace

void check_agrees_with_cpu(const std::string& what, const DifferentiableFunction& f,
                           const std::vector<Tensor>& inputs, Device device, double bound) {
    if (device.is_cpu()) return;
    INFO(what);
    const std::vector<Tensor> want = [&] {
        const PrecisionScope exact(Precision::fp32);
        return run_on(f, inputs, Device{});
    }();
    const std::vector<Tensor> got = run_on(f, inputs, device), again = run_on(f, inputs, device);
    REQUIRE(got.size() == want.size());
    for (size_t i = 0; i < want.size(); ++i) {
        INFO("result " << i << " " << to_string(want[i].shape()));
        CHECK(got[i].device() == device);
        CHECK(bit_identical(got[i], again[i]));
        if (is_floating(want[i].dtype()))
            CHECK(normalised_squared_error(got[i], want[i]) <= bound);
        else
            CHECK(bit_identical(got[i], want[i]));
    }
}

void check_error(const std::string& message, const std::function<void()>& f) {
    std::string thrown = "nothing was thrown";
    try {
        f();
    } catch (const Error& e) {
        thrown = e.what();
    }
    CHECK(thrown == message);
}

}  // namespace sieve::testing
