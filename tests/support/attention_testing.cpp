#include "tests/support/attention_testing.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/autograd/autograd.h"
#include "tests/support/testing.h"

namespace sieve::testing {
namespace {

struct Row {
    const double *q, *k, *v, *dout;  // of one query, and of its key and value head
    double *out, *lse, *dq, *dk, *dv;
    int64_t dim, value_dim;
};

double dot(const double* x, const double* y, int64_t n) {
    double sum = 0;
    for (int64_t j = 0; j < n; ++j) sum += x[j] * y[j];
    return sum;
}

void attend(const Row& r, const std::vector<int64_t>& keys, double scale) {
    double total = 0, largest = -std::numeric_limits<double>::infinity();
    std::vector<double> weights;
    for (const int64_t s : keys) weights.push_back(scale * dot(r.q, r.k + s * r.dim, r.dim));
    for (const double w : weights) largest = std::max(largest, w);
    for (double& w : weights) total += w = std::exp(w - largest);
    *r.lse = keys.empty() ? largest : largest + std::log(total);
    for (size_t i = 0; i < keys.size(); ++i)
        for (int64_t j = 0; j < r.value_dim; ++j)
            r.out[j] += weights[i] / total * r.v[keys[i] * r.value_dim + j];
    for (size_t i = 0; i < keys.size(); ++i) {
        const double a = weights[i] / total, *value = r.v + keys[i] * r.value_dim,
                     *key = r.k + keys[i] * r.dim;
        const double dz = a * (dot(r.dout, value, r.value_dim) - dot(r.dout, r.out, r.value_dim));
        for (int64_t j = 0; j < r.value_dim; ++j) r.dv[keys[i] * r.value_dim + j] += a * r.dout[j];
        for (int64_t j = 0; j < r.dim; ++j) {
            r.dq[j] += scale * dz * key[j];
            r.dk[keys[i] * r.dim + j] += scale * dz * r.q[j];
        }
    }
}

// Relative to the largest element, or to 1 when that is smaller: with one key a row dq and dk are 0.
double difference(const Tensor& got, const Tensor& want) {
    return max_abs_difference(got, want) /
           std::max(1.0, max_abs_difference(want, Tensor::zeros(want.shape(), want.dtype())));
}

// Infinities of one sign do not differ.
double lse_difference(const Tensor& got, const Tensor& want) {
    REQUIRE(got.shape() == want.shape());
    const std::vector<double> a = got.to(DType::float64).to_vector<double>(),
                              b = want.to(DType::float64).to_vector<double>();
    double worst = 0;
    for (size_t i = 0; i < a.size(); ++i)
        if (a[i] != b[i] && !(std::abs(a[i] - b[i]) <= worst)) worst = std::abs(a[i] - b[i]);
    return worst;
}

}  // namespace

std::string name_of(const AttentionCase& c) {
    return "B " + std::to_string(c.B) + " H " + std::to_string(c.H) + " G " + std::to_string(c.G) + " T " +
           std::to_string(c.T) + " dh " + std::to_string(c.dim) + " dv " + std::to_string(c.value_dim);
}

AttentionInputs attention_inputs(const AttentionCase& c, DType dtype, Device device) {
    return {.q = random_normal({c.B, c.H, c.T, c.dim}, 1, dtype).to(device),
            .k = random_normal({c.B, c.G, c.T, c.dim}, 2, dtype).to(device),
            .v = random_normal({c.B, c.G, c.T, c.value_dim}, 3, dtype).to(device),
            .dout = random_normal({c.B, c.T, c.H * c.value_dim}, 4, dtype).to(device)};
}

AttentionGradients run_attention(const AttentionInputs& in, const Attend& attend) {
    const Tensor q = in.q.clone(), k = in.k.clone(), v = in.v.clone();
    for (const Tensor& leaf : {q, k, v}) leaf.set_requires_grad(true);
    const AttentionOutput y = attend(q, k, v);
    backward({y.out}, {in.dout});
    return {.out = y.out.detach(), .lse = y.lse, .dq = q.grad(), .dk = k.grad(), .dv = v.grad()};
}

void check_close(const AttentionGradients& got, const AttentionGradients& want, double tolerance) {
    CHECK(difference(got.out, want.out) < tolerance);
    CHECK(difference(got.dq, want.dq) < tolerance);
    CHECK(difference(got.dk, want.dk) < tolerance);
    CHECK(difference(got.dv, want.dv) < tolerance);
    CHECK(lse_difference(got.lse, want.lse) < 10 * tolerance);
}

void check_nmse(const AttentionGradients& got, const AttentionGradients& want, double tolerance) {
    CHECK(normalised_squared_error(got.out, want.out) < tolerance);
    CHECK(normalised_squared_error(got.dq, want.dq) < tolerance);
    CHECK(normalised_squared_error(got.dk, want.dk) < tolerance);
    CHECK(normalised_squared_error(got.dv, want.dv) < tolerance);
    CHECK(lse_difference(got.lse, want.lse) < 10 * std::sqrt(tolerance));
}

std::vector<PrecisionCase> precisions_of(Device device) {
    std::vector<PrecisionCase> cases{{Precision::fp32, 1e-7}};
    if (device.is_cpu()) return cases;
    cases.push_back({Precision::tf32, 1e-5});
    cases.push_back({Precision::bf16, 1e-3});
    return cases;
}

bool bit_identical(const AttentionGradients& a, const AttentionGradients& b) {
    return bit_identical(a.out, b.out) && bit_identical(a.lse, b.lse) && bit_identical(a.dq, b.dq) &&
           bit_identical(a.dk, b.dk) && bit_identical(a.dv, b.dv);
}

Tensor first_along(const Tensor& x, int axis, int64_t length) {
    int64_t outer = 1, inner = static_cast<int64_t>(size_of(x.dtype()));
    Shape shape;
    for (int i = 0; i < x.rank(); ++i) {
        if (i < axis) outer *= x.dim(i);
        if (i > axis) inner *= x.dim(i);
        shape.append(i == axis ? length : x.dim(i));
    }
    const Tensor from = x.to(Device{}), y = Tensor::empty(shape, x.dtype());
    for (int64_t o = 0; o < outer; ++o)
        std::copy_n(static_cast<const char*>(from.raw()) + o * x.dim(axis) * inner, length * inner,
                    static_cast<char*>(y.raw()) + o * length * inner);
    return y.to(x.device());
}

AttentionGradients attention_oracle(const AttentionInputs& in, double scale,
                                    const std::function<bool(int64_t, int64_t, int64_t)>& attends) {
    const auto& [q, k, v, dout] = in;
    const int64_t B = q.dim(0), H = q.dim(1), T = q.dim(2), dim = q.dim(3), G = k.dim(1),
                  value_dim = v.dim(3);
    const auto on_host = [](const Tensor& x) { return x.to(Device{}).to(DType::float64); };
    const Tensor q64 = on_host(q), k64 = on_host(k), v64 = on_host(v), dout64 = on_host(dout);
    const AttentionGradients r{.out = Tensor::zeros(Shape{B, T, H * value_dim}, DType::float64),
                               .lse = Tensor::zeros(Shape{B, H, T}, DType::float64),
                               .dq = Tensor::zeros(q.shape(), DType::float64),
                               .dk = Tensor::zeros(k.shape(), DType::float64),
                               .dv = Tensor::zeros(v.shape(), DType::float64)};
    for (int64_t b = 0; b < B; ++b)
        for (int64_t h = 0; h < H; ++h)
            for (int64_t t = 0; t < T; ++t) {
                std::vector<int64_t> keys;
                for (int64_t s = 0; s <= t; ++s)
                    if (attends(b, t, s)) keys.push_back(s);
                const int64_t row = (b * H + h) * T + t, kv = (b * G + h / (H / G)) * T,
                              cell = ((b * T + t) * H + h) * value_dim;
                attend({.q = q64.data<double>() + row * dim,
                        .k = k64.data<double>() + kv * dim,
                        .v = v64.data<double>() + kv * value_dim,
                        .dout = dout64.data<double>() + cell,
                        .out = r.out.data<double>() + cell,
                        .lse = r.lse.data<double>() + row,
                        .dq = r.dq.data<double>() + row * dim,
                        .dk = r.dk.data<double>() + kv * dim,
                        .dv = r.dv.data<double>() + kv * value_dim,
                        .dim = dim,
                        .value_dim = value_dim},
                       keys, scale);
            }
    return r;
}

}  // namespace sieve::testing
