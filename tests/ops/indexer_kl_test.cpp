#include "framework/ops/indexer_kl/indexer_kl.h"

#include "framework/attention/scores/score_rows.h"
#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/threads.h"
#include "framework/ops/lightning_indexer/lightning_indexer.h"
#include "framework/ops/top_k/top_k.h"
#include "tests/ops/indexer_oracle.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr double index_scale = 0.4;

Tensor sparse_loss(const IndexerInput& in, const AttentionInput& attention, const Selection& selection) {
    return indexer_kl_sparse({in.q, in.k, in.w, index_scale}, main_attention(attention), selection);
}
Tensor dense_loss(const IndexerInput& in, const AttentionInput& attention) {
    return indexer_kl_dense({in.q, in.k, in.w, index_scale}, main_attention(attention));
}

// KL(p || softmax(I)) of one row.
double oracle_row(const IndexerInput& in, const AttentionInput& attention, const std::vector<int32_t>& keys,
                  int64_t b, int64_t t) {
    double sum = 0, loss = 0;
    for (const int32_t s : keys) sum += std::exp(oracle_score(in, index_scale, b, t, s));
    for (const int32_t s : keys) {
        const double p = oracle_target(attention, b, t, s);
        if (p > 0) loss += p * (std::log(p) - oracle_score(in, index_scale, b, t, s) + std::log(sum));
    }
    return loss;
}

double oracle_loss(const IndexerInput& in, const AttentionInput& attention, const Selection& selection) {
    const int64_t batch = in.q.dim(0), length = in.q.dim(1);
    double loss = 0;
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t t = 0; t < length; ++t) loss += oracle_row(in, attention, chosen(selection, b, t), b, t);
    return batch * length > 0 ? loss / static_cast<double>(batch * length) : 0;
}

struct Dims {
    int64_t heads, width, main_heads, groups, main_width;
};
constexpr Dims all_dims[] = {{1, 3, 1, 1, 1}, {3, 5, 4, 2, 3}, {4, 16, 6, 3, 17}, {5, 7, 3, 1, 8}};

// A selection that is not the indexer's own, so that its rows have gaps of all kinds.
Selection random_selection(int64_t batch, int64_t length, int64_t k, uint64_t seed) {
    return top_k_select(random_normal({batch, length, length}, seed), k);
}

std::vector<Tensor> leaves_of(const IndexerInput& in) {
    with_gradients(in);
    return {in.q, in.k, in.w};
}

// Loss and gradients, in the order loss, dq, dk, dw, on the device.
std::vector<Tensor> run(const IndexerInput& in, const AttentionInput& attention, const Selection* selection,
                        Device device = {}) {
    const IndexerInput leaves = on(device, IndexerInput{in.q.clone(), in.k.clone(), in.w.clone()});
    with_gradients(leaves);
    const Tensor loss = selection ? sparse_loss(leaves, on(device, attention), on(device, *selection))
                                  : dense_loss(leaves, on(device, attention));
    backward(loss);
    return {loss, leaves.q.grad(), leaves.k.grad(), leaves.w.grad()};
}

// The gradients by the formulas, all loops written out.
std::vector<Tensor> oracle_gradients(const IndexerInput& in, const AttentionInput& attention,
                                     const Selection& selection) {
    const int64_t batch = in.q.dim(0), length = in.q.dim(1);
    std::vector<Tensor> d;
    for (const Tensor& x : {in.q, in.k, in.w}) d.push_back(Tensor::zeros(x.shape(), DType::float64));
    for (int64_t row = 0; row < batch * length; ++row) {
        const int64_t b = row / length, t = row % length;
        const std::vector<int32_t> keys = chosen(selection, b, t);
        double sum = 0;
        for (const int32_t s : keys) sum += std::exp(oracle_score(in, index_scale, b, t, s));
        for (const int32_t s : keys) {
            const double g =
                (std::exp(oracle_score(in, index_scale, b, t, s)) / sum - oracle_target(attention, b, t, s)) /
                static_cast<double>(batch * length) * index_scale;
            add_score_gradient(in, b, t, s, g, d);
        }
    }
    return d;
}

}  // namespace

DEVICE_TEST_CASE("indexer_kl: values against the formula", device) {
    for (const int64_t length : {0, 1, 2, 5, 7, 13, 33, 70})
        for (const Dims& n : all_dims) {
            if (is_emulated(device) && (length == 5 || length == 7 || length * n.heads > 150)) continue;
            INFO("T " << length << " HI " << n.heads << " H " << n.main_heads);
            const IndexerInput in = random_indexer(2, length, n.heads, n.width, 1), here = on(device, in);
            const Selection all = select_all(2, length);
            const AttentionInput dense = random_attention(n.main_heads, n.groups, n.main_width, all, 2);
            const double want = oracle_loss(in, dense, all);
            CHECK(dense_loss(here, on(device, dense)).item() == doctest::Approx(want).epsilon(1e-11));
            CHECK(dense_loss(as_float32(here), on(device, as_float32(dense))).item() ==
                  doctest::Approx(want).epsilon(1e-4));
            for (const int64_t k : {int64_t{1}, int64_t{3}, length + 3}) {
                const Selection selection = random_selection(2, length, k, 3);
                const AttentionInput sparse =
                    random_attention(n.main_heads, n.groups, n.main_width, selection, 4);
                const double want_sparse = oracle_loss(in, sparse, selection);
                CHECK(sparse_loss(here, on(device, sparse), on(device, selection)).item() ==
                      doctest::Approx(want_sparse).epsilon(1e-11));
                CHECK(sparse_loss(as_float32(here), on(device, as_float32(sparse)), on(device, selection))
                          .item() == doctest::Approx(want_sparse).epsilon(1e-4));
            }
        }
}

DEVICE_TEST_CASE("indexer_kl_sparse: gradients", device) {
    for (const int64_t length : {0, 1, 2, 5, 7, 13, 33})
        for (const int64_t k : {int64_t{1}, int64_t{3}, length + 3})
            for (const Dims& n : {all_dims[0], all_dims[1]}) {
                if (length > 13 && n.heads > 1 && k != 3) continue;
                // One case each by tiles and by gathers.
                if (is_emulated(device) &&
                    (n.heads > 1 || !((length == 5 && k == 3) || (length == 13 && k == 1))))
                    continue;
                const Selection on_host = random_selection(1, length, k, 5), selection = on(device, on_host);
                const AttentionInput attention =
                    on(device, random_attention(n.main_heads, n.groups, n.main_width, on_host, 6));
                check_gradients(
                    "T " + std::to_string(length) + " k " + std::to_string(k),
                    [&](const std::vector<Tensor>& x) {
                        return std::vector<Tensor>{sparse_loss({x[0], x[1], x[2]}, attention, selection)};
                    },
                    leaves_of(random_indexer(1, length, n.heads, n.width, 7)), {.device = device});
            }
}

DEVICE_TEST_CASE("indexer_kl_dense: gradients", device) {
    for (const int64_t length : {0, 1, 2, 5, 7, 13, 33})
        for (const Dims& n : all_dims) {
            if (length > 13 && n.heads > 3) continue;
            if (is_emulated(device) && n.heads * length != 5) continue;
            const int64_t batch = length < 10 ? 2 : 1;
            const AttentionInput attention = on(
                device, random_attention(n.main_heads, n.groups, n.main_width, select_all(batch, length), 8));
            check_gradients("T " + std::to_string(length) + " HI " + std::to_string(n.heads),
                            [&](const std::vector<Tensor>& x) {
                                return std::vector<Tensor>{dense_loss({x[0], x[1], x[2]}, attention)};
                            },
                            leaves_of(random_indexer(batch, length, n.heads, n.width, 9)),
                            {.device = device});
        }
}

// Long enough for split sums over queries, and (k much smaller than T) for the gathering path.
DEVICE_TEST_CASE("indexer_kl: gradients of long sequences against the formula", device) {
    for (const int64_t length : {200, 700})
        for (const int64_t k : {5, 40, 150}) {
            if (is_emulated(device) && (length > 200 || k > 5)) continue;
            INFO("T " << length << " k " << k);
            const IndexerInput in = random_indexer(2, length, 3, 17, 11);
            const Selection selection = random_selection(2, length, k, 12);
            const AttentionInput attention = random_attention(4, 2, 9, selection, 13);
            const std::vector<Tensor> got = run(in, attention, &selection, device);
            const std::vector<Tensor> single = run(as_float32(in), as_float32(attention), &selection, device);
            const std::vector<Tensor> want = oracle_gradients(in, attention, selection);
            CHECK(got[0].item() == doctest::Approx(oracle_loss(in, attention, selection)).epsilon(1e-11));
            for (size_t i = 0; i < 3; ++i) {
                CHECK(relative_difference(got[i + 1], want[i]) < 1e-11);
                CHECK(relative_difference(single[i + 1], want[i]) < 2e-5);
            }
        }
    const int64_t length = is_emulated(device) ? 100 : 530;
    const IndexerInput in = random_indexer(1, length, 2, 5, 14);
    const Selection all = select_all(1, length);
    const AttentionInput attention = random_attention(3, 1, 5, all, 15);
    const std::vector<Tensor> got = run(in, attention, nullptr, device),
                              want = oracle_gradients(in, attention, all);
    for (size_t i = 0; i < 3; ++i) CHECK(relative_difference(got[i + 1], want[i]) < 1e-11);
}

DEVICE_TEST_CASE("indexer_kl_sparse: with all keys selected it is the dense loss, bit for bit", device) {
    const IndexerInput in = as_float32(random_indexer(2, 75, 3, 9, 16));
    const Selection all = select_all(2, 75);
    const AttentionInput attention = as_float32(random_attention(4, 2, 5, all, 17));
    const std::vector<Tensor> sparse = run(in, attention, &all, device),
                              dense = run(in, attention, nullptr, device);
    for (size_t i = 0; i < sparse.size(); ++i) CHECK(bit_identical(sparse[i], dense[i]));
}

// Rows before first_row must not be read: they are NaN here.
TEST_CASE("indexer_kl_sparse: with kept weights the same loss and gradients") {
    const int64_t length = 200;
    const IndexerInput in = random_indexer(2, length, 3, 5, 40);
    const Selection selection = random_selection(2, length, 9, 41);
    const AttentionInput attention = random_attention(4, 2, 6, selection, 42);
    for (const int64_t first_row : {0, 40, 199}) {
        INFO("weights from row " << first_row);
        SelectedWeights weights{Tensor::full({2, length, 9}, std::nan(""), DType::float64), first_row};
        for (int64_t row = 0; row < 2 * length; ++row) {
            const std::vector<int32_t> keys = chosen(selection, row / length, row % length);
            for (size_t i = 0; i < keys.size() && row % length >= first_row; ++i)
                weights.sums.data<double>()[row * 9 + static_cast<int64_t>(i)] =
                    4 * oracle_target(attention, row / length, row % length, keys[i]);
        }
        const std::vector<Tensor> want = run(in, attention, &selection);
        const IndexerInput leaves{in.q.clone(), in.k.clone(), in.w.clone()};
        with_gradients(leaves);
        const Tensor loss = indexer_kl_sparse({leaves.q, leaves.k, leaves.w, index_scale},
                                              main_attention(attention), selection, weights);
        backward(loss);
        const std::vector<Tensor> got{loss, leaves.q.grad(), leaves.k.grad(), leaves.w.grad()};
        for (size_t i = 0; i < got.size(); ++i) CHECK(relative_difference(got[i], want[i]) < 1e-11);
    }
}

namespace {

// What float32 makes of the gradients of the indexer, against float64 on the same numbers: the worst of the
// three.
double gradient_error(const IndexerInput& in, const AttentionInput& attention, const Selection* selection,
                      Device device) {
    const auto widened = [](const Tensor& x) { return x.to(DType::float64); };
    const IndexerInput exact_in{widened(in.q), widened(in.k), widened(in.w)};
    const AttentionInput exact{widened(attention.q), widened(attention.k), widened(attention.lse),
                               attention.scale};
    const std::vector<Tensor> got = run(in, attention, selection, device),
                              want = run(exact_in, exact, selection, device);
    double worst = 0;
    for (size_t i = 1; i < got.size(); ++i) worst = std::max(worst, relative_difference(got[i], want[i]));
    return worst;
}

}  // namespace

// PyTorch's float32, which keeps maximum and sum of a softmax apart, was wrong by 6e-7, 3.8e-6 and 3.8e-6 in
// a model whose queries were multiplied by 20, 2000 and 200000; p = exp(z - lse) by 2e-6, 1.8e-4 and 1.5e-2.
DEVICE_TEST_CASE("indexer_kl: the error of the gradients does not grow with the attention's scores", device) {
    struct Case {
        std::string name;
        int64_t length, top_k;  // 0: the dense loss
    };
    for (const Case& c : {Case{"dense", 70, 0}, {"tiles", 70, 40}, {"gathers", 120, 7}})
        for (const auto& [factor, bound] :
             {std::pair{1.0, 1e-6}, {20.0, 1.8e-6}, {2e3, 1.1e-5}, {2e5, 1.1e-5}}) {
            const IndexerInput in = as_float32(random_indexer(1, c.length, 4, 16, 51));
            const Selection selection =
                c.top_k ? random_selection(1, c.length, c.top_k, 52) : select_all(1, c.length);
            AttentionInput attention = random_attention(4, 2, 16, selection, 53);
            for (int64_t i = 0; i < attention.q.numel(); ++i) attention.q.data<double>()[i] *= factor / 4;
            const double error =
                gradient_error(in, as_float32(attention), c.top_k ? &selection : nullptr, device);
            MESSAGE("indexer_kl, " << c.name << ", queries times " << factor << " on " << to_string(device)
                                   << ": relative error of the gradients " << error);
            CHECK(error < bound);
        }
}

DEVICE_TEST_CASE("indexer_kl: targets of exactly 0 contribute nothing", device) {
    // One head whose logits lie 2000 apart: p is 1 at the first key and exactly 0 at the others.
    for (const DType dtype : {DType::float32, DType::float64}) {
        const int64_t length = 40;
        IndexerInput in = random_indexer(1, length, 2, 3, 18);
        AttentionInput attention{Tensor::full({1, 1, length, 1}, 1.0, DType::float64),
                                 Tensor::full({1, 1, length, 1}, -2000.0, DType::float64),
                                 Tensor::zeros({1, 1, length}, DType::float64), 1.0};
        attention.k.data<double>()[0] = 0;
        double want = 0;
        for (int64_t t = 0; t < length; ++t) {
            double sum = 0;
            for (int64_t s = 0; s <= t; ++s) sum += std::exp(oracle_score(in, index_scale, 0, t, s));
            want += (std::log(sum) - oracle_score(in, index_scale, 0, t, 0)) / static_cast<double>(length);
        }
        if (dtype == DType::float32) in = as_float32(in), attention = as_float32(attention);
        const std::vector<Tensor> got = run(in, attention, nullptr, device);
        CHECK(got[0].item() == doctest::Approx(want).epsilon(1e-5));
        for (const Tensor& x : got)
            for (const double v : x.to(Device{}).to(DType::float64).to_vector<double>())
                CHECK(std::isfinite(v));
    }
}

TEST_CASE("indexer_kl: the main attention receives no gradient") {
    const IndexerInput in = random_indexer(1, 6, 2, 3, 19);
    with_gradients(in);
    const AttentionInput attention = random_attention(2, 1, 3, select_all(1, 6), 20);
    for (const Tensor& x : {attention.q, attention.k}) x.set_requires_grad(true);
    backward(dense_loss(in, attention));
    CHECK(in.q.grad().defined());
    for (const Tensor& x : {attention.q, attention.k}) CHECK(!x.grad().defined());
    CHECK(!dense_loss(random_indexer(1, 6, 2, 3, 19), attention).requires_grad());
}

DEVICE_TEST_CASE("indexer_kl: without gradients the same loss", device) {
    for (const int64_t length : {50, 200, 600}) {
        if (is_emulated(device) && length > 200) continue;
        const IndexerInput in = as_float32(random_indexer(1, length, 3, 8, 21));
        const Selection selection = random_selection(1, length, 20, 22);
        const AttentionInput attention = as_float32(random_attention(2, 2, 8, selection, 23));
        CHECK(bit_identical(sparse_loss(on(device, in), on(device, attention), on(device, selection)),
                            run(in, attention, &selection, device)[0]));
    }
}

struct LossCase {
    int64_t batch, length, top_k;  // top_k 0: the dense loss
    Dims n;
};
// The last ones gather.
constexpr LossCase loss_cases[] = {
    {2, 40, 0, {3, 5, 4, 2, 3}},      {1, 65, 0, {4, 64, 2, 2, 32}}, {2, 33, 0, {33, 4, 3, 3, 36}},
    {2, 65, 30, {4, 32, 4, 4, 16}},   {1, 90, 9, {4, 64, 4, 4, 32}}, {2, 70, 3, {3, 5, 4, 2, 7}},
    {1, 600, 70, {20, 12, 6, 1, 40}}, {1, 600, 66, {2, 8, 2, 2, 8}}, {1, 50, 2, {40, 130, 9, 1, 130}}};

DEVICE_TEST_CASE("indexer_kl: the device agrees with the CPU, the same each time", device) {
    if (device.is_cpu()) return;
    for (const LossCase& c : loss_cases) {
        if (is_emulated(device) && c.length > 150) continue;
        INFO("T " << c.length << " k " << c.top_k << " HI " << c.n.heads << " dI " << c.n.width);
        const IndexerInput in = as_float32(random_indexer(c.batch, c.length, c.n.heads, c.n.width, 31));
        const Selection selection =
            c.top_k ? random_selection(c.batch, c.length, c.top_k, 32) : select_all(c.batch, c.length);
        const AttentionInput attention =
            as_float32(random_attention(c.n.main_heads, c.n.groups, c.n.main_width, selection, 33));
        const Selection* chosen_keys = c.top_k ? &selection : nullptr;
        const std::vector<Tensor> got = run(in, attention, chosen_keys, device),
                                  want = run(in, attention, chosen_keys),
                                  again = run(in, attention, chosen_keys, device);
        for (size_t i = 0; i < 4; ++i) {
            CHECK(normalised_squared_error(got[i], want[i]) < 1e-7);
            CHECK(bit_identical(got[i], again[i]));
        }
    }
}

DEVICE_TEST_CASE("indexer_kl: tf32 and bf16", device) {
    if (device.is_cpu()) return;
    for (const Rounding& rounding : roundings)
        for (const LossCase& c : loss_cases) {
            if (is_emulated(device) && c.length > 150) continue;
            INFO("T " << c.length << " k " << c.top_k << " HI " << c.n.heads << " bound " << rounding.error);
            if (is_emulated(device) && rounding.precision == Precision::tf32 && c.n.width > 32) continue;
            const IndexerInput random =
                as_float32(random_indexer(c.batch, c.length, c.n.heads, c.n.width, 40));
            const IndexerInput in{coarse(random.q), coarse(random.k), random.w};
            const Selection selection =
                c.top_k ? random_selection(c.batch, c.length, c.top_k, 41) : select_all(c.batch, c.length);
            const AttentionInput attention =
                as_float32(random_attention(c.n.main_heads, c.n.groups, c.n.main_width, selection, 42));
            const Selection* chosen_keys = c.top_k ? &selection : nullptr;
            const std::vector<Tensor> want = run(in, attention, chosen_keys);
            const PrecisionScope scope(rounding.precision);
            const std::vector<Tensor> got = run(in, attention, chosen_keys, device);
            for (size_t i = 0; i < 4; ++i) CHECK(normalised_squared_error(got[i], want[i]) < rounding.error);
        }
}

// Long sequences are worked on in chunks of rows, whose gradients of keys add up.
DEVICE_TEST_CASE("indexer_kl: chunks of rows on the device", device) {
    if (device.is_cpu()) return;
    cuda::ChunkLimits& limits = cuda::chunk_limits();
    const cuda::ChunkLimits before = limits;
    for (const int64_t k : {0, 3, 60}) {
        const IndexerInput in = random_indexer(2, 130, 2, 5, 34);
        const Selection selection = k ? random_selection(2, 130, k, 35) : select_all(2, 130);
        const AttentionInput attention = random_attention(2, 2, 3, selection, 36);
        limits = before;
        const std::vector<Tensor> whole = run(in, attention, k ? &selection : nullptr, device);
        limits = {.elements = 1, .rows = 64, .contribution_bytes = 40 * 3 * 5 * 8};
        const std::vector<Tensor> parts = run(in, attention, k ? &selection : nullptr, device);
        for (size_t i = 0; i < 4; ++i) CHECK(relative_difference(parts[i], whole[i]) < 1e-13);
    }
    limits = before;
}

// No value of a selection is checked there: whatever it is, only the losses that it makes may be wrong.
DEVICE_TEST_CASE("indexer_kl_sparse: an impossible selection harms nobody on the device", device) {
    if (device.is_cpu()) return;
    for (const int64_t length : {9, 40}) {
        const IndexerInput in = as_float32(random_indexer(1, length, 2, 4, 37));
        Selection selection = random_selection(1, length, 2, 38);
        const AttentionInput attention = as_float32(random_attention(2, 1, 4, selection, 39));
        for (int64_t i = 0; i < selection.indices.numel(); ++i)
            selection.indices.data<int32_t>()[i] = static_cast<int32_t>((i * 7919) % 1000 - 300) * 100000;
        for (int64_t i = 0; i < length; ++i)
            selection.counts.data<int32_t>()[i] = static_cast<int32_t>(i * 50 - 100);
        const std::vector<Tensor> got = run(in, attention, &selection, device);
        CHECK(got[0].to_vector<float>().size() == 1);
    }
}

DEVICE_TEST_CASE("indexer_kl: NaN reaches the loss", device) {
    for (const int64_t k : {0, 2}) {
        IndexerInput in = as_float32(random_indexer(1, 40, 2, 4, 37));
        const Selection selection = k ? random_selection(1, 40, k, 38) : select_all(1, 40);
        const AttentionInput attention = as_float32(random_attention(2, 1, 4, selection, 39));
        in.k.data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
        CHECK(std::isnan(run(in, attention, k ? &selection : nullptr, device)[0].item()));
    }
}

TEST_CASE("indexer_kl: the same bits on one and two threads") {
    const int before = thread_count();
    for (const int64_t length : {90, 600}) {
        const IndexerInput in = as_float32(random_indexer(2, length, 2, 9, 24));
        const Selection selection = random_selection(2, length, 20, 25);
        const AttentionInput attention = as_float32(random_attention(2, 1, 8, selection, 26));
        for (const Selection* s : {&selection, static_cast<const Selection*>(nullptr)}) {
            set_thread_count(1);
            const std::vector<Tensor> one = run(in, attention, s);
            set_thread_count(2);
            const std::vector<Tensor> two = run(in, attention, s);
            for (size_t i = 0; i < one.size(); ++i) CHECK(bit_identical(one[i], two[i]));
        }
    }
    set_thread_count(before);
}

TEST_CASE("indexer_kl: no memory of the order of T x T") {
    const int64_t length = 4096;
    const IndexerInput in = as_float32(random_indexer(1, length, 2, 4, 27));
    with_gradients(in);
    const Selection selection = indexer_select({in.q, in.k, in.w}, 16);
    const Tensor q = random_normal({1, 2, length, 4}, 28, DType::float32);
    const auto extra = [&](const std::function<Tensor()>& loss) {
        reset_peak_memory();
        const int64_t before = memory_stats().live_bytes;
        backward(loss());
        return memory_stats().peak_bytes - before;
    };
    const int64_t square = length * length * 4;
    CHECK(extra([&] { return indexer_kl_sparse({in.q, in.k, in.w}, {q, q, 0.5}, selection); }) < square / 5);
    CHECK(extra([&] { return indexer_kl_dense({in.q, in.k, in.w}, {q, q, 0.5}); }) < square / 5);
}

DEVICE_TEST_CASE("indexer_kl: memory grows as T on the device", device) {
    if (device.is_cpu() || is_emulated(device)) return;
    const auto peak = [&](int64_t length) {
        const IndexerInput in = on(device, as_float32(random_indexer(1, length, 2, 4, 27)));
        with_gradients(in);
        const Tensor q = random_normal({1, 2, length, 4}, 28, DType::float32).to(device);
        reset_peak_memory(device);
        const int64_t before = memory_stats(device).live_bytes;
        const Selection selection = indexer_select({in.q, in.k, in.w}, 16);
        backward(indexer_kl_sparse({in.q, in.k, in.w}, {q, q, 0.5}, selection));
        backward(indexer_kl_dense({in.q, in.k, in.w}, {q, q, 0.5}));
        return memory_stats(device).peak_bytes - before;
    };
    const int64_t length = 32768;
    CHECK(peak(length) < length * length * 4 / 16);
    CHECK(peak(2 * length) < 2.2 * static_cast<double>(peak(length)));
}

TEST_CASE("indexer_kl: errors") {
    const Tensor iq = Tensor::zeros({1, 4, 2, 3}), ik = Tensor::zeros({1, 4, 3}),
                 iw = Tensor::zeros({1, 4, 2});
    const Tensor q = Tensor::zeros({1, 3, 4, 5}), k = Tensor::zeros({1, 3, 4, 5});
    check_error("indexer_kl_dense: q has 3 heads, want a multiple of the 2 of k", [&] {
        indexer_kl_dense({iq, ik, iw}, {q, Tensor::zeros({1, 2, 4, 5})});
    });
    check_error("indexer_kl_dense: q is [1,3,9,5], want [1,3,4,5], batch and length of the indexer", [&] {
        indexer_kl_dense({iq, ik, iw}, {Tensor::zeros({1, 3, 9, 5}), k});
    });
    check_error("indexer_kl_dense: indexer k is [1,4,4], want [1,4,3], indexer q is [1,4,2,3]", [&] {
        indexer_kl_dense({iq, Tensor::zeros({1, 4, 4}), iw}, {q, k});
    });
    check_error("indexer_kl_sparse: the selection's counts is [1,5], want [1,4], a row for each query", [&] {
        indexer_kl_sparse({iq, ik, iw}, {q, k},
                          {Tensor::zeros({1, 4, 2}, DType::int32), Tensor::zeros({1, 5}, DType::int32)});
    });
    check_error("indexer_kl_sparse: the selection's indices is float32, want int32", [&] {
        indexer_kl_sparse({iq, ik, iw}, {q, k},
                          {Tensor::zeros({1, 4, 2}), Tensor::zeros({1, 4}, DType::int32)});
    });
}
