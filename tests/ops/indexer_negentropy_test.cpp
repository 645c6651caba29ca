// The loss without a target of ops/indexer_kl.
#include "framework/attention/scores/score_rows.h"
#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/threads.h"
#include "framework/ops/indexer_kl/indexer_kl.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr double index_scale = 0.4;

Tensor loss_of(const IndexerInput& in) {
    return indexer_negentropy({in.q, in.k, in.w, index_scale});
}

// softmax(I) of query t.
std::vector<double> distribution(const IndexerInput& in, int64_t b, int64_t t) {
    std::vector<double> r;
    double sum = 0;
    for (int64_t s = 0; s <= t; ++s) sum += r.emplace_back(std::exp(oracle_score(in, index_scale, b, t, s)));
    for (double& share : r) share /= sum;
    return r;
}

double entropy(const std::vector<double>& r) {
    double sum = 0;
    for (const double share : r) sum -= share * std::log(share);
    return sum;
}

double oracle_loss(const IndexerInput& in) {
    const int64_t batch = in.q.dim(0), length = in.q.dim(1);
    double loss = 0;
    for (int64_t row = 0; row < batch * length; ++row)
        loss += std::log(static_cast<double>(row % length + 1)) -
                entropy(distribution(in, row / length, row % length));
    return batch * length > 0 ? loss / static_cast<double>(batch * length) : 0;
}

// Loss and gradients, in the order loss, dq, dk, dw, on the device.
std::vector<Tensor> run(const IndexerInput& in, Device device = {}) {
    const IndexerInput leaves = on(device, IndexerInput{in.q.clone(), in.k.clone(), in.w.clone()});
    with_gradients(leaves);
    const Tensor loss = loss_of(leaves);
    backward(loss);
    return {loss, leaves.q.grad(), leaves.k.grad(), leaves.w.grad()};
}

// dq, dk, dw by the formulas, all loops written out.
std::vector<Tensor> oracle_gradients(const IndexerInput& in) {
    const int64_t batch = in.q.dim(0), length = in.q.dim(1);
    std::vector<Tensor> d;
    for (const Tensor& x : {in.q, in.k, in.w}) d.push_back(Tensor::zeros(x.shape(), DType::float64));
    for (int64_t row = 0; row < batch * length; ++row) {
        const int64_t b = row / length, t = row % length;
        const std::vector<double> r = distribution(in, b, t);
        const double h = entropy(r);
        for (int64_t s = 0; s <= t; ++s) {
            const double share = r[static_cast<size_t>(s)];
            const double g =
                share * (std::log(share) + h) / static_cast<double>(batch * length) * index_scale;
            add_score_gradient(in, b, t, s, g, d);
        }
    }
    return d;
}

struct Dims {
    int64_t heads, width;
};
constexpr Dims all_dims[] = {{1, 3}, {3, 5}, {4, 16}, {33, 2}};

}  // namespace

DEVICE_TEST_CASE("indexer_negentropy: values against the formula", device) {
    for (const int64_t length : {0, 1, 2, 5, 7, 13, 33, 70})
        for (const Dims& n : all_dims) {
            if (is_emulated(device) && (length == 5 || length == 7 || length * n.heads > 150)) continue;
            INFO("T " << length << " HI " << n.heads);
            const IndexerInput in = random_indexer(2, length, n.heads, n.width, 1), here = on(device, in);
            const double want = oracle_loss(in);
            CHECK(loss_of(here).item() == doctest::Approx(want).epsilon(1e-11));
            CHECK(loss_of(as_float32(here)).item() == doctest::Approx(want).epsilon(1e-4));
        }
}

DEVICE_TEST_CASE("indexer_negentropy: gradients", device) {
    for (const int64_t length : {0, 1, 2, 5, 7, 13, 33})
        for (const Dims& n : all_dims) {
            if (length * n.heads > 60) continue;
            if (is_emulated(device) && n.heads * length != 5) continue;
            const IndexerInput in =
                with_gradients(random_indexer(length < 10 ? 2 : 1, length, n.heads, n.width, 9));
            check_gradients("T " + std::to_string(length) + " HI " + std::to_string(n.heads),
                            [&](const std::vector<Tensor>& x) {
                                return std::vector<Tensor>{loss_of({x[0], x[1], x[2]})};
                            },
                            {in.q, in.k, in.w}, {.device = device});
        }
}

// Long enough for split sums over queries.
DEVICE_TEST_CASE("indexer_negentropy: gradients of long sequences against the formula", device) {
    for (const int64_t length : {100, 200, 530}) {
        if (is_emulated(device) && length > 100) continue;
        INFO("T " << length);
        const IndexerInput in = random_indexer(2, length, 3, 9, 11);
        const std::vector<Tensor> got = run(in, device), single = run(as_float32(in), device),
                                  want = oracle_gradients(in);
        for (size_t i = 0; i < 3; ++i) {
            CHECK(relative_difference(got[i + 1], want[i]) < 1e-11);
            CHECK(relative_difference(single[i + 1], want[i]) < 2e-5);
        }
    }
}

// Where a fresh indexer begins: scores that differ by 1e-3 and less, in float32.
DEVICE_TEST_CASE("indexer_negentropy: nearly equal scores have a gradient, equal ones none", device) {
    IndexerInput in = random_indexer(1, 60, 2, 8, 12);
    for (const Tensor& x : {in.q, in.k, in.w})
        for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] *= 0.1;
    const std::vector<Tensor> single = run(as_float32(in), device), want = oracle_gradients(in);
    for (size_t i = 0; i < 3; ++i) CHECK(relative_difference(single[i + 1], want[i]) < 1e-3);
    in.w = Tensor::zeros(in.w.shape(), DType::float64);
    const std::vector<Tensor> equal = run(as_float32(in), device);
    CHECK(std::abs(equal[0].item()) < 1e-6);
    for (size_t i = 1; i < 4; ++i)
        for (const float v : equal[i].to(Device{}).to_vector<float>()) CHECK(std::abs(v) < 1e-9);
}

DEVICE_TEST_CASE("indexer_negentropy: without gradients the same loss; NaN reaches it", device) {
    IndexerInput in = as_float32(random_indexer(2, 75, 3, 9, 16));
    CHECK(bit_identical(loss_of(on(device, in)), run(in, device)[0]));
    CHECK(!loss_of(on(device, in)).requires_grad());
    in.k.data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
    CHECK(std::isnan(run(in, device)[0].item()));
}

DEVICE_TEST_CASE("indexer_negentropy: the device agrees with the CPU, in chunks of rows too", device) {
    if (device.is_cpu()) return;
    cuda::ChunkLimits& limits = cuda::chunk_limits();
    const cuda::ChunkLimits before = limits;
    const IndexerInput in = random_indexer(2, 130, 2, 5, 34);
    const std::vector<Tensor> want = run(in), whole = run(in, device), again = run(in, device);
    limits = {.elements = 1, .rows = 64, .contribution_bytes = 40 * 3 * 5 * 8};
    const std::vector<Tensor> parts = run(in, device);
    limits = before;
    for (size_t i = 0; i < 4; ++i) {
        CHECK(relative_difference(whole[i], want[i]) < 1e-12);
        CHECK(relative_difference(parts[i], want[i]) < 1e-12);
        CHECK(bit_identical(whole[i], again[i]));
    }
}

TEST_CASE("indexer_negentropy: the same bits on one and two threads") {
    const int before = thread_count();
    for (const int64_t length : {90, 600}) {
        const IndexerInput in = as_float32(random_indexer(2, length, 2, 9, 24));
        set_thread_count(1);
        const std::vector<Tensor> one = run(in);
        set_thread_count(2);
        const std::vector<Tensor> two = run(in);
        for (size_t i = 0; i < one.size(); ++i) CHECK(bit_identical(one[i], two[i]));
    }
    set_thread_count(before);
}

TEST_CASE("indexer_negentropy: no memory of the order of T x T, and errors") {
    const int64_t length = 4096;
    const IndexerInput in = as_float32(random_indexer(1, length, 2, 4, 27));
    with_gradients(in);
    reset_peak_memory();
    const int64_t before = memory_stats().live_bytes;
    backward(loss_of(in));
    CHECK(memory_stats().peak_bytes - before < length * length * 4 / 5);
    check_error("indexer_negentropy: indexer k is [1,4,4], want [1,4,3], indexer q is [1,4,2,3]", [] {
        indexer_negentropy({Tensor::zeros({1, 4, 2, 3}), Tensor::zeros({1, 4, 4}), Tensor::zeros({1, 4, 2})});
    });
}
