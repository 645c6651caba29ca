// Every op with several operands refuses one of another dtype, or one on another device, by its name.
#include <optional>

#include "framework/ops/add/add.h"
#include "framework/ops/add_bias/add_bias.h"
#include "framework/ops/batched_matmul/batched_matmul.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/ops/decode_select/decode_select.h"
#include "framework/ops/dropout/dropout.h"
#include "framework/ops/embedding/embedding.h"
#include "framework/ops/grouped_linear/grouped_linear.h"
#include "framework/ops/head_linear/head_linear.h"
#include "framework/ops/head_parts/head_parts.h"
#include "framework/ops/layer_norm/layer_norm.h"
#include "framework/ops/linear/linear.h"
#include "framework/ops/matmul/matmul.h"
#include "framework/ops/moe_combine/moe_combine.h"
#include "framework/ops/moe_dispatch/moe_dispatch.h"
#include "framework/ops/moe_sigmoid_routing/moe_sigmoid_routing.h"
#include "framework/ops/quantize_rows/quantize_rows.h"
#include "framework/ops/rms_norm/rms_norm.h"
#include "framework/ops/swiglu/swiglu.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

struct Operand {
    std::string name;  // as the op's errors call it
    Tensor tensor;
};

struct OpCall {
    std::string op;
    std::vector<Operand> operands;  // the one that the others are measured by comes first
    std::function<void(const std::vector<Tensor>&)> run;
    bool cpu_only = false;
};

using Given = const std::vector<Tensor>&;

Tensor zeros(const Shape& shape, DType dtype = DType::float32) {
    return Tensor::zeros(shape, dtype);
}

// 4 tokens, each by 1 of 2 experts.
DispatchPlan plan_with(const Tensor& position, const Tensor& offsets) {
    return {.order = position, .position = position, .offsets = offsets, .tokens = 4, .top_k = 1};
}

Operand position() {
    return {"the plan's position", Tensor::from(std::vector<int32_t>{0, 1, 2, 3}, {4})};
}

Operand offsets(const std::string& name) {
    return {name, Tensor::from(std::vector<int64_t>{0, 1, 4}, {3})};
}

std::vector<OpCall> plain_ops() {
    return {
        {"add", {{"a", zeros({3})}, {"b", zeros({3})}}, [](Given t) { add(t[0], t[1]); }},
        {"swiglu", {{"gate", zeros({3})}, {"up", zeros({3})}}, [](Given t) { swiglu(t[0], t[1]); }},
        {"dropout_add",
         {{"the residual", zeros({3})}, {"x", zeros({3})}},
         [](Given t) { dropout_add(t[0], t[1], 0.1, {}); }},
        {"linear", {{"x", zeros({2, 3})}, {"weight", zeros({4, 3})}}, [](Given t) { linear(t[0], t[1]); }},
        {"matmul", {{"a", zeros({2, 3})}, {"b", zeros({3, 4})}}, [](Given t) { matmul(t[0], t[1]); }},
        {"batched_matmul",
         {{"a", zeros({1, 2, 3})}, {"b", zeros({1, 3, 4})}},
         [](Given t) { batched_matmul(t[0], t[1]); }},
        {"head_linear",
         {{"x", zeros({1, 2, 2, 3})}, {"weight", zeros({8, 3})}},
         [](Given t) {
             head_linear(t[0], t[1], {0, 4});
         }},
        {"head_linear",
         {{"x", zeros({1, 2, 2, 4})}, {"weight", zeros({8, 3})}},
         [](Given t) {
             head_linear_transposed(t[0], t[1], {0, 4});
         }},
        {"join_heads",
         {{"a", zeros({1, 2, 2, 3})}, {"c", zeros({1, 2, 2, 4})}},
         [](Given t) { join_heads(t[0], t[1]); }},
        {"rms_norm",
         {{"x", zeros({2, 3})}, {"weight", zeros({3})}},
         [](Given t) { rms_norm(t[0], t[1], 1e-5); }},
        {"add_bias", {{"x", zeros({2, 3})}, {"bias", zeros({3})}}, [](Given t) { add_bias(t[0], t[1]); }},
        {"layer_norm",
         {{"x", zeros({2, 3})}, {"weight", zeros({3})}, {"bias", zeros({3})}},
         [](Given t) { layer_norm(t[0], t[1], t[2], 1e-5); }},
        {"embedding",
         {{"weight", zeros({5, 3})}, {"tokens", zeros({4}, DType::int32)}},
         [](Given t) { embedding(t[1], t[0]); }},
        {"cross_entropy",
         {{"logits", zeros({4, 5})}, {"targets", zeros({4}, DType::int32)}},
         [](Given t) { cross_entropy(t[0], t[1]); }},
        {"fp8_values",
         {{"codes", zeros({2, 4}, DType::uint8)}, {"scales", zeros({2})}},
         [](Given t) {
             fp8_values({t[0], t[1]});
         }},
        {"int8_values",
         {{"codes", zeros({2, 4}, DType::uint8)}, {"scales", zeros({2})}},
         [](Given t) {
             int8_values({t[0], t[1]});
         }},
        {"times_scales", {{"a", zeros({3})}, {"b", zeros({3})}}, [](Given t) { times_scales(t[0], t[1]); }},
    };
}

std::vector<OpCall> expert_ops() {
    return {
        {"moe_dispatch",
         {{"x", zeros({4, 3})}, position()},
         [](Given t) { moe_dispatch(t[0], plan_with(t[1], {})); }},
        {"moe_combine",
         {{"y", zeros({4, 3})}, {"weights", zeros({4, 1})}, position()},
         [](Given t) { moe_combine(t[0], t[1], plan_with(t[2], {})); }},
        {"grouped_linear",
         {{"x", zeros({4, 3})},
          offsets("the plan's offsets"),
          {"weight 0", zeros({2, 3})},
          {"weight 1", zeros({2, 3})}},
         [](Given t) {
             grouped_linear(t[0], plan_with({}, t[1]), {t[2], t[3]});
         }},
        {"moe_sigmoid_routing",
         {{"logits", zeros({4, 2})}, {"bias", zeros({2})}},
         [](Given t) { moe_sigmoid_routing(t[0], t[1], {.top_k = 1}); }},
        {"move_balancing_bias",
         {{"bias", zeros({2})}, offsets("offsets"), {"guard", zeros({}, DType::float64)}},
         [](Given t) { move_balancing_bias(t[0], t[1], 0.1, t[2]); }},
    };
}

std::vector<OpCall> decoding_ops() {
    const Operand panels{"panels", zeros({1, 1, 3, indexer_panel_keys(DType::float32)})};
    return {
        {.op = "store_indexer_keys",
         .operands = {{"k", zeros({1, 1, 3})}, panels},
         .run = [](Given t) { store_indexer_keys(t[0], t[1], 0); },
         .cpu_only = true},
        {.op = "decode_select",
         .operands = {{"indexer q", zeros({1, 1, 2, 3})},
                      panels,
                      {"indexer w", zeros({1, 1, 2})},
                      {"key_scales", zeros({1, 4})}},
         .run =
             [](Given t) {
                 decode_select({t[0], t[2]}, {t[1], 2, t[3]}, 1);
             },
         .cpu_only = true},
    };
}

std::optional<Device> device_beside(Device home) {
    for (const Device& other : test_devices())
        if (other != home) return other;
    if (home.is_cpu()) return {};
    return Device{};
}

DType another(DType dtype) {
    return dtype == DType::float64 ? DType::float32 : DType::float64;
}

// `call` on `home`, with each operand but the first replaced in turn.
void check_refusals(const OpCall& call, Device home) {
    INFO(call.op);
    std::vector<Tensor> good;
    for (const Operand& operand : call.operands) good.push_back(operand.tensor.to(home));
    call.run(good);
    for (size_t i = 1; i < good.size(); ++i) {
        const std::string what = call.op + ": " + call.operands[i].name + " is ";
        std::vector<Tensor> given = good;
        const DType dtype = good[i].dtype();
        given[i] = good[i].to(another(dtype));
        check_error(what + name_of(another(dtype)) + ", want " + name_of(dtype), [&] { call.run(given); });
        const std::optional<Device> other = device_beside(home);
        if (!other) continue;
        given[i] = good[i].to(*other);
        check_error(what + "on " + to_string(*other) + ", want " + to_string(home) + ", where " +
                        call.operands[0].name + " is",
                    [&] { call.run(given); });
    }
}

}  // namespace

DEVICE_TEST_CASE("operands: each has the dtype that goes with the first and lies where it does", device) {
    for (const std::vector<OpCall>& calls : {plain_ops(), expert_ops(), decoding_ops()})
        for (const OpCall& call : calls) check_refusals(call, call.cpu_only ? Device{} : device);
}
