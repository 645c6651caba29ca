#include "framework/ops/moe_dispatch/moe_dispatch.h"

#include <set>

#include "framework/autograd/autograd.h"
#include "framework/core/threads.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

// K distinct experts per token, consecutive from a random first one.
Tensor random_choice(int64_t tokens, int64_t top_k, int32_t experts, uint64_t seed) {
    const Tensor first = random_tokens({tokens}, seed, experts);
    const Tensor choice = Tensor::empty({tokens, top_k}, DType::int32);
    for (int64_t n = 0; n < tokens; ++n)
        for (int64_t j = 0; j < top_k; ++j)
            choice.data<int32_t>()[n * top_k + j] =
                static_cast<int32_t>((first.data<int32_t>()[n] + j) % experts);
    return choice;
}

}  // namespace

TEST_CASE("plan_dispatch: a stable sort of the slots by expert") {
    for (const int64_t tokens : {0, 1, 2, 7, 33})
        for (const int32_t experts : {1, 2, 3, 8})
            for (int64_t k = 1; k <= experts; ++k) {
                const Tensor choice = random_choice(tokens, k, experts, 21);
                const DispatchPlan plan = plan_dispatch(choice, experts);
                REQUIRE(plan.num_experts() == experts);
                const std::vector<int64_t> offsets = plan.offsets.to_vector<int64_t>();
                CHECK(offsets.front() == 0);
                CHECK(offsets.back() == tokens * k);
                std::set<int32_t> slots;
                for (int64_t e = 0; e < experts; ++e)
                    for (int64_t p = offsets[static_cast<size_t>(e)]; p < offsets[static_cast<size_t>(e) + 1];
                         ++p) {
                        const int32_t slot = plan.order.data<int32_t>()[p];
                        CHECK(choice.data<int32_t>()[slot] == e);
                        CHECK(plan.position.data<int32_t>()[slot] == p);
                        if (p > offsets[static_cast<size_t>(e)])
                            CHECK(slot > plan.order.data<int32_t>()[p - 1]);
                        slots.insert(slot);
                    }
                CHECK(static_cast<int64_t>(slots.size()) == tokens * k);
            }
}

TEST_CASE("plan_dispatch: experts without tokens own nothing") {
    const DispatchPlan plan = plan_dispatch(Tensor::from(std::vector<int32_t>{3, 1, 3}, {3, 1}), 5);
    CHECK(plan.offsets.to_vector<int64_t>() == std::vector<int64_t>{0, 0, 1, 1, 3, 3});
    CHECK(plan.order.to_vector<int32_t>() == std::vector<int32_t>{1, 0, 2});
    CHECK(plan.position.to_vector<int32_t>() == std::vector<int32_t>{1, 0, 2});
}

TEST_CASE("moe_dispatch: each slot gets its token's row") {
    for (const int64_t width : {0, 1, 5, 33}) {
        const DispatchPlan plan = plan_dispatch(random_choice(7, 2, 3, 22), 3);
        const Tensor x = random_normal({7, width}, 23);
        const Tensor y = moe_dispatch(x, plan);
        REQUIRE(y.shape() == Shape{14, width});
        for (int64_t p = 0; p < 14; ++p)
            for (int64_t i = 0; i < width; ++i)
                CHECK(y.data<double>()[p * width + i] ==
                      x.data<double>()[plan.order.data<int32_t>()[p] / 2 * width + i]);
        CHECK(bit_identical(moe_dispatch(x.to(DType::float32), plan), y.to(DType::float32)));
    }
}

TEST_CASE("moe_dispatch: gradients") {
    for (const int64_t tokens : {0, 1, 2, 7, 33})
        for (const int32_t experts : {1, 2, 3, 8})
            for (const int64_t k : {int64_t{1}, static_cast<int64_t>(experts)}) {
                const DispatchPlan plan = plan_dispatch(random_choice(tokens, k, experts, 24), experts);
                check_gradients("tokens " + std::to_string(tokens) + " experts " + std::to_string(experts) +
                                    " top_k " + std::to_string(k),
                                [&](const std::vector<Tensor>& in) {
                                    return std::vector<Tensor>{moe_dispatch(in[0], plan)};
                                },
                                {random_normal({tokens, 5}, 25).set_requires_grad(true)});
            }
}

TEST_CASE("moe_dispatch: the bits do not depend on the threads") {
    const int threads = thread_count();
    const DispatchPlan plan = plan_dispatch(random_choice(1000, 3, 5, 26), 5);
    std::vector<Tensor> seen;
    for (const int count : {1, 2, 2}) {
        set_thread_count(count);
        const Tensor x = random_normal({1000, 67}, 27, DType::float32).set_requires_grad(true);
        backward({moe_dispatch(x, plan)}, {random_normal({3000, 67}, 28, DType::float32)});
        seen.push_back(x.grad());
    }
    set_thread_count(threads);
    CHECK(bit_identical(seen[0], seen[1]));
    CHECK(bit_identical(seen[1], seen[2]));
}

TEST_CASE("moe_dispatch: errors") {
    const Tensor choice = Tensor::from(std::vector<int32_t>{0, 2, 1, 0}, {2, 2});
    check_error("plan_dispatch: slot 1 chose expert 2 of 2", [&] { plan_dispatch(choice, 2); });
    check_error("plan_dispatch: num_experts is 0, want at least 1", [&] { plan_dispatch(choice, 0); });
    check_error("plan_dispatch: experts is float32, want int32", [] {
        plan_dispatch(Tensor::zeros({2, 2}), 2);
    });
    check_error("plan_dispatch: experts is [4], want 2 dims", [&] { plan_dispatch(choice.alias({4}), 3); });
    check_error("plan_dispatch: experts is [2,0], want at least 1 per token", [] {
        plan_dispatch(Tensor::zeros({2, 0}, DType::int32), 2);
    });
    DispatchPlan plan = plan_dispatch(choice, 3);
    const Tensor x = Tensor::zeros({2, 5});
    for (const int32_t position : {-1, 4}) {
        plan.position = plan.position.clone();
        plan.position.data<int32_t>()[2] = position;
        check_error(
            "moe_dispatch: the plan's position of slot 2 is " + std::to_string(position) + ", want 0 to 3",
            [&] { moe_dispatch(x, plan); });
    }
    check_error("moe_dispatch: x is [3,5], want [2,5], the plan's number of tokens", [&] {
        moe_dispatch(Tensor::zeros({3, 5}), plan_dispatch(choice, 3));
    });
}

DEVICE_TEST_CASE("moe_dispatch: on every device", device) {
    for (const int64_t tokens : {0, 1, 7, 300})
        for (const int64_t k : {1, 2, 3})
            for (const int32_t experts : {1, 4, 13}) {
                const Tensor chosen = random_tokens({tokens, k}, 5, experts);
                const auto f = [&](const std::vector<Tensor>& in) {
                    const DispatchPlan plan = plan_dispatch(in[1], experts);
                    return std::vector<Tensor>{moe_dispatch(in[0], plan), plan.order, plan.position,
                                               plan.offsets};
                };
                check_agrees_with_cpu(
                    std::to_string(tokens) + " tokens, top " + std::to_string(k), f,
                    {random_normal({tokens, 5}, 6, DType::float32).set_requires_grad(true), chosen}, device,
                    1e-13);
            }
}
