// Softmax and what is made with it, at logits where a careless formula loses all digits; sums of a million
// terms. The references are long doubles, by the textbook's formulas.
#include <cmath>
#include <limits>
#include <numeric>

#include "framework/autograd/autograd.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/ops/dense_attention/dense_attention.h"
#include "framework/ops/indexer_kl/indexer_kl.h"
#include "framework/ops/softmax/softmax.h"
#include "framework/ops/sparse_attention/sparse_attention.h"
#include "framework/ops/sum/sum.h"
#include "framework/optim/clip.h"
#include "framework/optim/muon.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

using Real = long double;

struct LogitRow {
    std::string name;
    std::vector<double> z;
};
// All of them are float32 numbers.
std::vector<LogitRow> extreme_rows() {
    std::vector<LogitRow> rows{{"one class", {5}},
                               {"equal", std::vector<double>(37, 1e4)},
                               {"equal and low", std::vector<double>(37, -1e4)},
                               {"close together, far from 0", {}},
                               {"from -1e4 to 1e4", {}},
                               {"one huge", std::vector<double>(37, 1)},
                               {"one alone", std::vector<double>(37, -static_cast<double>(1e30f))}};
    for (int i = 0; i < 37; ++i) {
        rows[3].z.push_back(1e4 + i % 7);
        rows[4].z.push_back(-1e4 + 20000.0 / 36 * i);
    }
    for (double& z : rows[4].z) z = static_cast<double>(static_cast<float>(z));
    rows[4].z[18] = 1;  // not 0, where the indexer's ReLU has its kink
    rows[5].z[20] = static_cast<double>(1e30f);
    rows[6].z[20] = 3;
    return rows;
}

std::vector<Real> softmax_of(const std::vector<double>& z) {
    const double largest = *std::max_element(z.begin(), z.end());
    std::vector<Real> p;
    for (const double x : z) p.push_back(std::exp(static_cast<Real>(x) - static_cast<Real>(largest)));
    const Real sum = std::accumulate(p.begin(), p.end(), Real(0));
    for (Real& x : p) x /= sum;
    return p;
}
Real log_softmax_at(const std::vector<double>& z, size_t i) {
    const double largest = *std::max_element(z.begin(), z.end());
    Real sum = 0;
    for (const double x : z) sum += std::exp(static_cast<Real>(x) - static_cast<Real>(largest));
    return (static_cast<Real>(z[i]) - static_cast<Real>(largest)) - std::log(sum);
}

// The largest difference, relative to the largest number that is wanted, unless float32 has none so small.
double error_of(const Tensor& got, const std::vector<Real>& want) {
    const std::vector<double> values = got.to(Device{}).to(DType::float64).to_vector<double>();
    REQUIRE(values.size() == want.size());
    Real worst = 0, scale = std::numeric_limits<float>::min() / 1e-6L;
    for (const Real w : want) scale = std::max(scale, std::abs(w));
    for (size_t i = 0; i < want.size(); ++i) {
        const Real difference = std::abs(static_cast<Real>(values[i]) - want[i]);
        if (!(difference <= worst)) worst = difference;  // also a NaN
    }
    return static_cast<double>(worst / scale);
}

Tensor of_dtype(const std::vector<double>& values, const Shape& shape, DType dtype, Device device) {
    return Tensor::from(values, shape).to(dtype).to(device);
}

double bound_of(DType dtype) {
    return dtype == DType::float32 ? 1e-6 : 1e-14;
}

}  // namespace

DEVICE_TEST_CASE("extreme logits: softmax and its gradient", device) {
    for (const LogitRow& row : extreme_rows())
        for (const DType dtype : {DType::float32, DType::float64}) {
            INFO(row.name << " " << std::string(name_of(dtype)));
            const auto n = static_cast<int64_t>(row.z.size());
            const Tensor x = of_dtype(row.z, {1, n}, dtype, device).set_requires_grad(true);
            const std::vector<Real> p = softmax_of(row.z);
            const Tensor y = softmax(x), dy = random_normal({1, n}, 1, dtype).to(device);
            CHECK(error_of(y, p) < bound_of(dtype));
            backward({y}, {dy});
            const std::vector<double> cotangent = dy.to(Device{}).to(DType::float64).to_vector<double>();
            Real dot = 0;
            for (size_t i = 0; i < p.size(); ++i) dot += p[i] * static_cast<Real>(cotangent[i]);
            std::vector<Real> want;
            for (size_t i = 0; i < p.size(); ++i)
                want.push_back(p[i] * (static_cast<Real>(cotangent[i]) - dot));
            CHECK(max_abs_difference(x.grad(), Tensor::zeros(x.shape(), dtype)) <
                  2 * std::abs(cotangent[0]) + 5);
            for (size_t i = 0; i < p.size(); ++i)
                CHECK(std::abs(x.grad().to(Device{}).to(DType::float64).to_vector<double>()[i] -
                               static_cast<double>(want[i])) < 4 * bound_of(dtype));
        }
}

DEVICE_TEST_CASE("extreme logits: cross entropy and its gradient", device) {
    for (const LogitRow& row : extreme_rows())
        for (const DType dtype : {DType::float32, DType::float64})
            for (const size_t target : {size_t{0}, row.z.size() / 2, row.z.size() - 1}) {
                INFO(row.name << " " << std::string(name_of(dtype)) << " target " << target);
                const auto n = static_cast<int64_t>(row.z.size());
                const Tensor x = of_dtype(row.z, {1, n}, dtype, device).set_requires_grad(true);
                const Tensor targets =
                    Tensor::from(std::vector<int32_t>{static_cast<int32_t>(target)}, {1}, device);
                const Tensor loss = cross_entropy(x, targets);
                const auto want = static_cast<double>(-log_softmax_at(row.z, target));
                CHECK(std::abs(loss.item() - want) <= bound_of(dtype) * want);
                CHECK(std::abs(score_predictions(x, targets).total_loss - want) <= bound_of(dtype) * want);
                backward(loss);
                std::vector<Real> gradient = softmax_of(row.z);
                gradient[target] -= 1;
                CHECK(error_of(x.grad(), gradient) < bound_of(dtype));
            }
}

namespace {

// Queries of 1, so that the logits are the keys; row t reads the first t + 1 of them.
struct AttentionOfRow {
    Tensor q, k, v, dout;
    std::vector<Real> out, dv;

    AttentionOfRow(const std::vector<double>& z, DType dtype, Device device) {
        const auto T = static_cast<int64_t>(z.size());
        q = Tensor::full({1, 1, T, 1}, 1, dtype, device);
        k = of_dtype(z, {1, 1, T, 1}, dtype, device);
        v = random_normal({1, 1, T, 1}, 2, dtype).to(device);
        dout = random_normal({1, T, 1}, 3, dtype).to(device);
        const std::vector<double> values = on_host(v), cotangents = on_host(dout);
        dv.assign(z.size(), 0);
        for (size_t t = 0; t < z.size(); ++t) {
            const std::vector<Real> p = softmax_of({z.begin(), z.begin() + static_cast<int64_t>(t) + 1});
            Real sum = 0;
            for (size_t s = 0; s <= t; ++s) {
                sum += p[s] * static_cast<Real>(values[s]);
                dv[s] += p[s] * static_cast<Real>(cotangents[t]);
            }
            out.push_back(sum);
        }
    }
    static std::vector<double> on_host(const Tensor& x) {
        return x.to(Device{}).to(DType::float64).to_vector<double>();
    }
    // The gradient of q is that of the logits times the keys; with a key of 1e30 it means little.
    void check(const AttentionOutput& y, DType dtype) const {
        CHECK(error_of(y.out, out) < bound_of(dtype));
        backward({y.out}, {dout});
        CHECK(error_of(v.grad(), dv) < 2 * bound_of(dtype));
    }
};

}  // namespace

DEVICE_TEST_CASE("extreme logits: attention over all keys and over selected ones", device) {
    for (const LogitRow& row : extreme_rows())
        for (const DType dtype : {DType::float32, DType::float64}) {
            INFO(row.name << " " << std::string(name_of(dtype)));
            const AttentionOfRow in(row.z, dtype, device);
            const auto T = static_cast<int64_t>(row.z.size());
            const auto fresh = [&] {
                for (const Tensor& x : {in.q, in.k, in.v}) {
                    x.set_grad({});
                    x.set_requires_grad(true);
                }
            };
            fresh();
            in.check(dense_attention(in.q, in.k, in.v, 1), dtype);
            const Selection all = on(device, select_all(1, T));
            for (const SparseMethod method : {SparseMethod::masked_tiles, SparseMethod::gathered}) {
                fresh();
                in.check(sparse_attention(in.q, in.k, in.v, all, 1, method), dtype);
            }
        }
}

// The gradient of a score is (softmax of the scores - target) / T; here it is read off dq = g k w.
DEVICE_TEST_CASE("extreme logits: the alignment loss", device) {
    for (const LogitRow& scores : extreme_rows())
        for (const LogitRow& logits : extreme_rows())
            for (const DType dtype : {DType::float32, DType::float64}) {
                if (scores.z.size() != logits.z.size()) continue;
                if (is_emulated(device) && (dtype == DType::float64 || scores.name == logits.name)) continue;
                INFO(scores.name << " for " << logits.name << " " << std::string(name_of(dtype)));
                const auto T = static_cast<int64_t>(scores.z.size());
                // Two heads make scores of both signs: I = ReLU(q k) - ReLU(-q k).
                std::vector<double> q, w;
                for (int64_t t = 0; t < T; ++t) {
                    q.insert(q.end(), {1, -1});
                    w.insert(w.end(), {1, -1});
                }
                const IndexerInput indexer{of_dtype(q, {1, T, 2, 1}, dtype, device),
                                           of_dtype(scores.z, {1, T, 1}, dtype, device),
                                           of_dtype(w, {1, T, 2}, dtype, device)};
                with_gradients(indexer);
                const Tensor one = Tensor::full({1, 1, T, 1}, 1, dtype, device);
                const Tensor loss =
                    indexer_kl_dense({indexer.q, indexer.k, indexer.w, 1},
                                     {one, of_dtype(logits.z, {1, 1, T, 1}, dtype, device), 1});
                Real want = 0;
                std::vector<Real> dk(static_cast<size_t>(T), 0);
                for (int64_t t = 0; t < T; ++t) {
                    const std::vector<double> z(logits.z.begin(), logits.z.begin() + t + 1),
                        I(scores.z.begin(), scores.z.begin() + t + 1);
                    const std::vector<Real> p = softmax_of(z), r = softmax_of(I);
                    for (size_t s = 0; s < z.size(); ++s) {
                        if (p[s] > std::numeric_limits<float>::min())
                            want +=
                                p[s] * (log_softmax_at(z, s) - log_softmax_at(I, s)) / static_cast<Real>(T);
                        dk[s] += (r[s] - p[s]) / static_cast<Real>(T);
                    }
                }
                const auto wanted = static_cast<double>(want);
                CHECK(std::abs(loss.item() - wanted) <=
                      4 * bound_of(dtype) * std::max(1.0, std::abs(wanted)));
                backward(loss);
                for (size_t s = 0; s < dk.size(); ++s)
                    CHECK(std::abs(AttentionOfRow::on_host(indexer.k.grad())[s] -
                                   static_cast<double>(dk[s])) < 4 * bound_of(dtype));
            }
}

TEST_CASE("a million terms: softmax, cross entropy") {
    const int64_t n = 1000003;
    const Tensor x = random_normal({1, n}, 1, DType::float32, 0.01);
    std::vector<double> z = x.to(DType::float64).to_vector<double>();
    const Tensor target = Tensor::from(std::vector<int32_t>{123456}, {1});
    const auto want = static_cast<double>(-log_softmax_at(z, 123456));
    CHECK(std::abs(cross_entropy(x, target).item() - want) < 1e-6 * want);
    CHECK(error_of(softmax(x), softmax_of(z)) < 1e-6);
}

TEST_CASE("a million terms: the mean of losses, the norm of gradients, sums") {
    const int64_t n = 1000003;
    // Losses of 0.1, which float32 cannot hold: an error of the sum is one of all terms alike.
    const Tensor logits = Tensor::zeros({n, 2}), targets = Tensor::zeros({n}, DType::int32);
    for (int64_t i = 0; i < n; ++i)
        logits.data<float>()[2 * i] = static_cast<float>(std::log(1 / (std::exp(0.1) - 1)));
    const double mean = cross_entropy(logits, targets).item();
    CHECK(mean == doctest::Approx(0.1).epsilon(1e-6));
    CHECK(score_predictions(logits, targets).total_loss == doctest::Approx(0.1 * n).epsilon(1e-6));

    const Tensor p = Tensor::zeros({n}).set_requires_grad(true);
    p.set_grad(Tensor::full({n}, 0.1));
    CHECK(clip_gradients({{"p", p}}, 1e9).item() ==
          doctest::Approx(static_cast<double>(0.1f) * std::sqrt(static_cast<double>(n))).epsilon(1e-12));
    CHECK(sum(Tensor::full({n}, 0.1)).item() == doctest::Approx(static_cast<double>(0.1f) * n).epsilon(1e-7));
}

// The update of Muon has norm 1 before its iterations: that is what a wrong norm would change.
TEST_CASE("a million terms: Muon's norm") {
    const int64_t rows = 2, columns = 1 << 19;
    const Tensor gradient = random_normal({rows, columns}, 1, DType::float64);
    const auto step = [&](DType dtype) {
        const Tensor p = Tensor::zeros({rows, columns}, dtype).set_requires_grad(true);
        p.set_grad(gradient.to(dtype).clone());
        Muon({{"p", p}}, {}).step(1);
        return p.to(DType::float64);
    };
    CHECK(relative_difference(step(DType::float32), step(DType::float64)) < 3e-6);
}
