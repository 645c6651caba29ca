#include "tests/support/attention_oracle.h"

#include <cmath>
#include <limits>

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
    double total = 0;
    std::vector<double> weights;
    for (const int64_t s : keys) weights.push_back(std::exp(scale * dot(r.q, r.k + s * r.dim, r.dim)));
    for (const double w : weights) total += w;
    *r.lse = keys.empty() ? -std::numeric_limits<double>::infinity() : std::log(total);
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

}  // namespace

AttentionGradients attention_oracle(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& dout,
                                    double scale,
                                    const std::function<bool(int64_t, int64_t, int64_t)>& attends) {
    const int64_t B = q.dim(0), H = q.dim(1), T = q.dim(2), dim = q.dim(3), G = k.dim(1),
                  value_dim = v.dim(3);
    const Tensor q64 = q.to(DType::float64), k64 = k.to(DType::float64), v64 = v.to(DType::float64),
                 dout64 = dout.to(DType::float64);
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
