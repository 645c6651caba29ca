#include "framework/ops/moe_dispatch/moe_dispatch.h"

#include <limits>

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/moe_dispatch/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "moe_dispatch";

void check_experts(const Tensor& experts, int64_t num_experts) {
    const std::string name = "plan_dispatch";
    if (num_experts < 1) fail(name + ": num_experts is " + std::to_string(num_experts) + ", want at least 1");
    check_rank("plan_dispatch", "experts", experts, 2);
    check_dtype("plan_dispatch", "experts", experts, DType::int32);
    if (experts.numel() > std::numeric_limits<int32_t>::max())
        fail(name + ": experts is " + to_string(experts.shape()) + ", too many slots for 32-bit positions");
    if (experts.dim(1) < 1)
        fail(name + ": experts is " + to_string(experts.shape()) + ", want at least 1 per token");
    if (!experts.device().is_cpu()) return;
    const int32_t* chosen = experts.data<int32_t>();
    for (int64_t s = 0; s < experts.numel(); ++s)
        if (chosen[s] < 0 || chosen[s] >= num_experts)
            fail(name + ": slot " + std::to_string(s) + " chose expert " + std::to_string(chosen[s]) +
                 " of " + std::to_string(num_experts));
}

template <class T>
Tensor forward_of(const Tensor& x, const DispatchPlan& plan) {
    const Tensor y = Tensor::empty({plan.slots(), x.dim(1)}, x.dtype(), x.device());
    launch(op, x.device(), cpu::moe_dispatch_forward<T>, cuda::moe_dispatch_forward<T>,
           MoeDispatchForward<T>{.x = x.data<T>(),
                                 .position = plan.position.data<int32_t>(),
                                 .y = y.data<T>(),
                                 .tokens = plan.tokens,
                                 .top_k = plan.top_k,
                                 .width = x.dim(1)});
    return y;
}

template <class T>
std::vector<Tensor> backward_of(const Tensor& dy, const Tensor& position, int64_t tokens, int64_t top_k) {
    const Tensor dx = Tensor::empty({tokens, dy.dim(1)}, dy.dtype(), dy.device());
    launch(op, dy.device(), cpu::moe_dispatch_backward<T>, cuda::moe_dispatch_backward<T>,
           MoeDispatchBackward<T>{.dy = dy.data<T>(),
                                  .position = position.data<int32_t>(),
                                  .dx = dx.data<T>(),
                                  .tokens = tokens,
                                  .top_k = top_k,
                                  .width = dy.dim(1)});
    return {dx};
}

}  // namespace

DispatchPlan plan_dispatch(const Tensor& experts, int64_t num_experts) {
    check_experts(experts, num_experts);
    const Device device = experts.device();
    const DispatchPlan plan{.order = Tensor::empty({experts.numel()}, DType::int32, device),
                            .position = Tensor::empty({experts.numel()}, DType::int32, device),
                            .offsets = Tensor::empty({num_experts + 1}, DType::int64, device),
                            .tokens = experts.dim(0),
                            .top_k = experts.dim(1)};
    launch("plan_dispatch", device, cpu::dispatch_sort, cuda::dispatch_sort,
           DispatchSort{.experts = experts.data<int32_t>(),
                        .order = plan.order.data<int32_t>(),
                        .position = plan.position.data<int32_t>(),
                        .offsets = plan.offsets.data<int64_t>(),
                        .slots = plan.slots(),
                        .num_experts = num_experts});
    return plan;
}

void check_positions(const char* reader, const DispatchPlan& plan) {
    const int64_t slots = plan.slots();
    check_shape(reader, "the plan's position", plan.position, Shape{slots}, "one a slot");
    if (!plan.position.device().is_cpu()) return;
    const int32_t* position = plan.position.data<int32_t>();
    for (int64_t s = 0; s < slots; ++s)
        if (position[s] < 0 || position[s] >= slots)
            fail(std::string(reader) + ": the plan's position of slot " + std::to_string(s) + " is " +
                 std::to_string(position[s]) + ", want 0 to " + std::to_string(slots - 1));
}

void check_offsets(const char* reader, const DispatchPlan& plan) {
    check_rank(reader, "the plan's offsets", plan.offsets, 1);
    if (!plan.offsets.device().is_cpu()) return;
    const int64_t* offsets = plan.offsets.data<int64_t>();
    const int64_t last = plan.num_experts();
    for (int64_t e = 0; e <= last; ++e) {
        const int64_t least = e == last ? plan.slots() : e ? offsets[e - 1] : 0;
        const int64_t most = e == 0 ? 0 : plan.slots();
        if (offsets[e] < least || offsets[e] > most)
            fail(std::string(reader) + ": the plan's offset " + std::to_string(e) + " is " +
                 std::to_string(offsets[e]) + ", want " + std::to_string(least) + " to " +
                 std::to_string(most));
    }
}

Tensor moe_dispatch(const Tensor& x, const DispatchPlan& plan) {
    check_rank(op, "x", x, 2);
    check_shape(op, "x", x, {plan.tokens, x.dim(1)}, "the plan's number of tokens");
    check_operand(op, "the plan's position", plan.position, {"x", x}, DType::int32);
    check_positions(op, plan);
    const Tensor y = dispatch_float(op, x.dtype(), [&]<class T>() { return forward_of<T>(x, plan); });
    record(
        op, {x}, {y},
        [position = plan.position, tokens = plan.tokens, top_k = plan.top_k](const std::vector<Tensor>& dy) {
            return dispatch_float(op, dy[0].dtype(),
                                  [&]<class T>() { return backward_of<T>(dy[0], position, tokens, top_k); });
        });
    return y;
}

}  // namespace sieve
