// What a failed step says: the first number that was not finite, by its name.
#include "framework/train/non_finite.h"

#include <cmath>
#include <limits>

#include "framework/autograd/autograd.h"
#include "framework/ops/scale/scale.h"
#include "framework/ops/sum/sum.h"
#include "framework/train/evaluate.h"
#include "framework/train/trainer.h"
#include "tests/support/testing.h"
#include "tests/support/tiny_training.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

Tensor weight_of(const Transformer& model, const std::string& name) {
    for (const NamedTensor& p : model.parameters())
        if (p.name == name) return p.tensor;
    FAIL("no weight " << name);
    return {};
}

NamedTensors copies_of(const NamedTensors& tensors) {
    NamedTensors copies;
    for (const NamedTensor& t : tensors) copies.push_back({t.name, t.tensor.clone()});
    return copies;
}

// Runs one step that must fail, and checks that it left the weights alone.
std::string message_of_step(const ExperimentConfig& config, const Transformer& model, const Stage& stage,
                            int64_t index) {
    StageRunner runner(config, model, stage);
    const NamedTensors before = copies_of(model.state());
    try {
        runner.step(index, tiny_data().batch(index));
    } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::diverged);
        for (size_t i = 0; i < before.size(); ++i)
            CHECK(bit_identical(model.state()[i].tensor, before[i].tensor));
        for (const NamedTensor& p : model.parameters()) CHECK(!p.tensor.grad().defined());
        return e.what();
    }
    FAIL("nothing was thrown");
    return "";
}

}  // namespace

TEST_CASE("non-finite: the first element, by its place") {
    CHECK(!non_finite_element(Tensor::zeros({2, 3})));
    CHECK(!non_finite_element(Tensor::zeros({0})));
    CHECK(!non_finite_element(Tensor::full({3}, 7, DType::int32)));
    const Tensor x = Tensor::zeros({4, 2, 3}, DType::float64);
    x.data<double>()[17] = not_a_number;
    CHECK(*non_finite_element(x) == "nan (first at [2,1,2])");
    x.data<double>()[16] = -std::numeric_limits<double>::infinity();
    CHECK(*non_finite_element(x) == "-inf (first at [2,1,1])");
    CHECK(*non_finite_element(Tensor::full({}, std::numeric_limits<float>::infinity())) ==
          "inf (first at [])");
}

TEST_CASE("non-finite: a weight is named before what it spoils") {
    for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse}) {
        const ExperimentConfig config = tiny_config(attention);
        const Transformer model(config.model, ParameterInit{});
        weight_of(model, "blocks.1.attention.qkv.weight").data<float>()[3 * 32 + 5] =
            static_cast<float>(not_a_number);
        const Stage stage = stages_of(config).back();
        const std::string title = std::string("diverged in the ") + name_of(stage.kind) + " stage at step ";
        const std::string what = ": the weight blocks.1.attention.qkv.weight is nan (first at [3,5])";
        CHECK(message_of_step(config, model, stage, 11) ==
              title + "12" + what +
                  ", since step 11 at the latest; loss nan, gradient norm nan; lower --learning_rate (now "
                  "0.003) or "
                  "--grad_clip (now 1)");
        CHECK(message_of_step(config, model, stage, 0).find(title + "1" + what + " before it") == 0);
    }
}

TEST_CASE("non-finite: an activation is named by its layer") {
    const ExperimentConfig config = tiny_config(AttentionKind::classic);
    const Transformer model(config.model, ParameterInit{});
    // Finite, and too large to be multiplied.
    weight_of(model, "blocks.1.norm1.weight").fill(1e6);
    weight_of(model, "blocks.1.attention.w_o.weight").fill(3e38);
    CHECK(message_of_step(config, model, stages_of(config)[0], 4)
              .find("diverged in the classic stage at step 5: the output of blocks.1.attention is ") == 0);
}

TEST_CASE("non-finite: scores that select name their layer") {
    const ExperimentConfig config = tiny_config(AttentionKind::sparse);
    const Transformer model(config.model, ParameterInit{});
    weight_of(model, "blocks.1.attention.indexer.q_proj.weight").fill(3e38);
    const std::string message = message_of_step(config, model, stages_of(config)[1], 4);
    CHECK_MESSAGE(
        message.find(
            "diverged in the sparse stage at step 5: blocks.1.attention: indexer_select: a score of") == 0,
        message);
}

TEST_CASE("non-finite: a gradient is named by its parameter, the one that the backward reached first") {
    const ExperimentConfig config = tiny_config(AttentionKind::classic);
    const Transformer model(config.model, ParameterInit{});
    const NamedTensors parameters = model.parameters();
    for (const NamedTensor& p : parameters) p.tensor.set_grad(Tensor::zeros(p.tensor.shape()));
    CHECK(!non_finite_gradient(model));
    for (const char* name : {"embed.weight", "blocks.0.attention.qkv.weight", "blocks.1.norm1.weight"})
        weight_of(model, name).grad().data<float>()[2] = static_cast<float>(not_a_number);
    CHECK(*non_finite_gradient(model) == "the gradient of blocks.1.norm1.weight is nan (first at [2])");
}

TEST_CASE("non-finite: a training at an impossible rate names what overflowed") {
    for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse}) {
        ExperimentConfig config = tiny_config(attention);
        config.learning_rate = 1000;
        const Transformer model(config.model, ParameterInit{});
        StageRunner runner(config, model, stages_of(config).back());
        std::string message;
        for (int64_t i = 0; i < 200 && message.empty(); ++i) {
            const NamedTensors before = copies_of(model.state());
            try {
                runner.step(i, tiny_data().batch(i));
            } catch (const Error& e) {
                message = e.what();
                CHECK(e.kind() == ErrorKind::diverged);
                for (size_t t = 0; t < before.size(); ++t)
                    CHECK(bit_identical(model.state()[t].tensor, before[t].tensor));
            }
        }
        MESSAGE(message);
        CHECK(message.find(std::string("diverged in the ") + name_of(attention) + " stage at step ") == 0);
        CHECK(message.find("; lower --learning_rate (now 1000) or --grad_clip (now 1)") != std::string::npos);
        CHECK((message.find(" (first at [") != std::string::npos ||
               message.find(" is NaN") != std::string::npos));
    }
}

TEST_CASE("non-finite: at fresh weights the advice is not the learning rate") {
    ExperimentConfig config = tiny_config(AttentionKind::classic);
    config.model.init_std = 1e30;
    const Transformer model(config.model, {.std = config.model.init_std});
    const std::string message = message_of_step(config, model, stages_of(config)[0], 0);
    CHECK_MESSAGE(message.find("; lower --init_std (now 1e+30)") != std::string::npos, message);
}

TEST_CASE("non-finite: trial steps train nothing, and say that they are trial steps") {
    ExperimentConfig config = tiny_config(AttentionKind::sparse);
    config.learning_rate = 1e30, config.warmup_lr = 1e30;
    for (const Stage& stage : stages_of(config))
        CHECK(measure_step_seconds(config, stage, tiny_data(), {}) > 0);
    const Transformer model(config.model, ParameterInit{});
    const Stage trial = trial_of(stages_of(config)[1]);
    const NamedTensors before = copies_of(model.state());
    StageRunner runner(config, model, trial);
    for (int64_t i = 0; i < 3; ++i) runner.step(i, tiny_data().batch(i));
    for (size_t i = 0; i < before.size(); ++i)
        CHECK(bit_identical(model.state()[i].tensor, before[i].tensor));
    weight_of(model, "norm.weight").fill(not_a_number);
    CHECK(message_of_step(config, model, trial, 0) ==
          "diverged in trial steps of the sparse stage at step 1: the weight norm.weight is nan (first at "
          "[0]) before "
          "it; loss nan, gradient norm nan; lower --init_std (now 0.02)");
}

TEST_CASE("non-finite: an evaluation names it as well") {
    for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse}) {
        const ExperimentConfig config = tiny_config(attention);
        const Transformer model(config.model, ParameterInit{});
        const Tensor norm = weight_of(model, "norm.weight");
        norm.data<float>()[7] = static_cast<float>(not_a_number);
        check_error("the validation loss is nan: the weight norm.weight is nan (first at [7])",
                    [&] { evaluate(model, tiny_data(), 1); });
        norm.data<float>()[7] = 1;
        weight_of(model, "blocks.0.feed_forward.experts.0.linear2.weight").fill(3e38);
        weight_of(model, "blocks.0.feed_forward.experts.1.linear2.weight").fill(3e38);
        try {
            evaluate(model, tiny_data(), 1);
            FAIL("nothing was thrown");
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::diverged);
            const std::string message = e.what();
            CHECK_MESSAGE(message.find("blocks.0.feed_forward") != std::string::npos, message);
        }
    }
}
