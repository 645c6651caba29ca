// Training on a CUDA device, real or emulated.
#include <cmath>
#include <nlohmann/json.hpp>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/cuda/runtime.h"
#include "framework/core/error.h"
#include "framework/core/precision.h"
#include "framework/core/threads.h"
#include "framework/io/json_file.h"
#include "framework/runs/experiment.h"
#include "framework/train/checkpoint.h"
#include "framework/train/evaluate.h"
#include "framework/train/trainer.h"
#include "tests/models/variants.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

ExperimentConfig tiny(const std::string& attention) {
    ExperimentConfig c;
    c.model.attention = from_name<AttentionKind>("attention", attention);
    c.model.vocab_size = 300;
    c.model.d_model = 16, c.model.n_heads = 2, c.model.n_layers = 2, c.model.d_ff = 24;
    c.model.max_seq_len = 12;
    c.model.num_experts = 3, c.model.expert_top_k = 2;
    c.model.indexer_heads = 2, c.model.indexer_dim = 8, c.model.sparse_top_k = 5;
    c.batch_size = 2;
    c.classic_steps = 12, c.warmup_steps = 4, c.sparse_steps = 12;
    c.eval_every = 6, c.eval_batches = 1, c.checkpoint_every = 5;
    return c;
}

const Dataset& excerpt() {
    static const Dataset data = load_dataset({.data = testing::source_dir() + "/data/excerpt",
                                              .vocab_size = 300,
                                              .max_tokens = 5000,
                                              .cache_dir = "",
                                              .seq_len = 12,
                                              .batch_size = 2});
    return data;
}

std::vector<Tensor> weights_of(const Transformer& model) {
    std::vector<Tensor> weights;
    for (const NamedTensor& p : model.parameters()) weights.push_back(p.tensor.to(Device{}));
    return weights;
}

struct Run {
    std::vector<double> losses, norms;
    std::vector<Tensor> weights;
};

// `steps` steps of the stage on a fresh model, whose weights are large enough for an alignment loss above
// rounding.
Run run_stage(const ExperimentConfig& config, size_t stage, Device device, int64_t steps) {
    const Transformer model(config.model, ParameterInit{.std = 0.2, .device = device});
    StageRunner runner(config, model, stages_of(config)[stage]);
    Run run;
    for (int64_t i = 0; i < steps; ++i) {
        const StageRunner::StepResult result = runner.step(i, excerpt().batch(i));
        run.losses.push_back(result.loss);
        run.norms.push_back(result.grad_norm);
    }
    run.weights = weights_of(model);
    return run;
}

void check_same(const Run& a, const Run& b) {
    CHECK(a.losses == b.losses);
    CHECK(a.norms == b.norms);
    for (size_t i = 0; i < a.weights.size(); ++i) CHECK(bit_identical(a.weights[i], b.weights[i]));
}

struct NamedStage {
    const char* attention;
    size_t index;
};
constexpr NamedStage stages[] = {{"classic", 0}, {"sparse", 0}, {"sparse", 1}};

}  // namespace

DEVICE_TEST_CASE("training on a device: follows the CPU, in every stage", device) {
    if (device.is_cpu()) return;
    const int64_t steps = is_emulated(device) ? 6 : 50;
    for (const NamedStage& stage : stages) {
        INFO(std::string(stage.attention) << " stage " << stage.index);
        const ExperimentConfig config = tiny(stage.attention);
        const Run want = run_stage(config, stage.index, Device{}, steps);
        const Run got = run_stage(config, stage.index, device, steps);
        for (size_t i = 0; i < want.losses.size(); ++i) {
            INFO("step " << i << ": " << got.losses[i] << ", on the CPU " << want.losses[i]);
            CHECK(std::abs(got.losses[i] - want.losses[i]) <= 1e-3 * want.losses[i]);
            CHECK(std::abs(got.norms[i] - want.norms[i]) <= 1e-2 * want.norms[i]);
        }
    }
}

DEVICE_TEST_CASE("training on a device: dense layers, groups of experts, biases and YaRN follow the CPU",
                 device) {
    if (device.is_cpu()) return;
    for (const NamedStage& stage : stages) {
        INFO(std::string(stage.attention) << " stage " << stage.index);
        ExperimentConfig config = tiny(stage.attention);
        make_glm(config.model);
        const Run want = run_stage(config, stage.index, Device{}, 5);
        const Run got = run_stage(config, stage.index, device, 5);
        for (size_t i = 0; i < want.losses.size(); ++i) {
            INFO("step " << i << ": " << got.losses[i] << ", on the CPU " << want.losses[i]);
            CHECK(std::abs(got.losses[i] - want.losses[i]) <= 1e-3 * want.losses[i]);
            CHECK(std::abs(got.norms[i] - want.norms[i]) <= 1e-2 * want.norms[i]);
        }
        for (size_t i = 0; i < want.weights.size(); ++i)
            CHECK(relative_difference(got.weights[i], want.weights[i]) < 1e-2);
        check_same(got, run_stage(config, stage.index, device, 5));
    }
}

DEVICE_TEST_CASE("training on a device: two runs give the same bits, in every precision", device) {
    if (device.is_cpu()) return;
    for (const Precision precision : {Precision::fp32, Precision::tf32, Precision::bf16}) {
        set_precision(precision);
        const ExperimentConfig config = tiny("sparse");
        check_same(run_stage(config, 1, device, 4), run_stage(config, 1, device, 4));
    }
    set_precision(Precision::fp32);
}

DEVICE_TEST_CASE("training on a device: a step waits once, and takes no memory from the system", device) {
    if (device.is_cpu()) return;
    for (const NamedStage& stage : stages) {
        const ExperimentConfig config = tiny(stage.attention);
        const Transformer model(config.model, ParameterInit{.device = device});
        StageRunner runner(config, model, stages_of(config)[stage.index]);
        for (int64_t i = 0; i < 2; ++i) runner.step(i, excerpt().batch(i));
        for (int64_t i = 2; i < 5; ++i) {  // the recording, and two replays
            const int64_t waits = cuda::synchronizations(), calls = memory_stats(device).system_calls;
            runner.step(i, excerpt().batch(i));
            CHECK(cuda::synchronizations() == waits + 1);
            CHECK(memory_stats(device).system_calls == calls);
        }
    }
}

DEVICE_TEST_CASE("training on a device: a loss that is not finite changes nothing and ends the run", device) {
    for (const int64_t good_steps : {0, 4}) {  // launch by launch, and replayed
        const ExperimentConfig config = tiny("classic");
        const Transformer model(config.model, ParameterInit{.device = device});
        StageRunner runner(config, model, stages_of(config)[0]);
        for (int64_t i = 0; i < good_steps; ++i) runner.step(i, excerpt().batch(i));
        const Tensor norm = model.parameters().back().tensor;
        norm.fill(std::numeric_limits<double>::quiet_NaN());
        const std::vector<Tensor> before = weights_of(model);
        try {
            runner.step(good_steps, excerpt().batch(good_steps));
            FAIL("nothing was thrown");
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::diverged);
        }
        const std::vector<Tensor> after = weights_of(model);
        for (size_t i = 0; i < before.size(); ++i) CHECK(bit_identical(after[i], before[i]));
    }
}

DEVICE_TEST_CASE("training on a device: a whole run, resumed, gives the bits of one that was not stopped",
                 device) {
    if (device.is_cpu()) return;
    const ExperimentConfig config = tiny("sparse");
    const auto train_in = [&](const std::string& folder, const std::string& resume_from, int64_t steps,
                              TrainingHistory& history) {
        const Transformer model(config.model, ParameterInit{.device = device});
        train({.config = config,
               .data = excerpt(),
               .model = model,
               .folder = folder,
               .resume_from = resume_from,
               .estimated_step_seconds = {0, 0},
               .quiet = true,
               .stop_wanted = [&steps] { return --steps == 0; }},
              history);
        write_final_model(folder + "/final_model.pt", model, config, excerpt().tokenizer().to_json());
        return weights_of(model);
    };
    const TemporaryFolder folder, stopped;
    const std::string stopped_folder = stopped.path().string();
    TrainingHistory whole, part, resumed;
    const std::vector<Tensor> want = train_in(folder.path().string(), "", 0, whole);
    train_in(stopped_folder, "", 10, part);
    const std::vector<Tensor> got = train_in(stopped_folder, stopped_folder, 0, resumed);
    for (size_t i = 0; i < want.size(); ++i) CHECK(bit_identical(got[i], want[i]));
    CHECK(resumed["step_loss"] == whole["step_loss"]);
    CHECK(resumed["val_loss"] == whole["val_loss"]);
    CHECK(whole.peak_memory_bytes > 0);

    // What was trained on the device and saved is the same model on the CPU.
    const FinalModel saved = read_final_model(folder.path().string() + "/final_model.pt");
    const Measurement e = evaluate(*saved.model, excerpt(), config.eval_batches);
    CHECK(std::abs(e["val_loss"] - whole["val_loss"].back()) <= 1e-4 * e["val_loss"]);
    CHECK(std::abs(e["indexer_recall"] - whole["indexer_recall"].back()) <= 0.02);
    CHECK(std::abs(e["indexer_covered_mass"] - whole["indexer_covered_mass"].back()) <= 1e-3);
}

DEVICE_TEST_CASE("training on a device: the results name the device that trained", device) {
    ExperimentConfig config = tiny("classic");
    config.classic_steps = 2;
    const TemporaryFolder folder;
    REQUIRE(run_variant(
                {.config = config, .folder = folder.path().string(), .device = device, .step_seconds = {0}},
                excerpt(), 0) == TrainingOutcome::finished);
    const auto results = read_json(folder / "training_results.json");
    CHECK(results.at("device") == (device.is_cpu() ? "cpu" : cuda::device_info().name));
    CHECK(results.at("precision") == "fp32");
    CHECK(results.at("threads") == full_thread_count());
}

DEVICE_TEST_CASE("causality on a device: no logit sees a later token", device) {
    const Precision precisions[] = {Precision::fp32, Precision::tf32, Precision::bf16};
    for (const char* attention : {"classic", "sparse"})
        for (const char* indexer : {"plain", "deepseek"})
            for (const Precision precision : precisions) {
                if (device.is_cpu() && precision == Precision::tf32) continue;
                set_precision(precision);
                ModelConfig config = tiny(attention).model;
                config.indexer = from_name<IndexerKind>("indexer", indexer);
                const Transformer model(config, ParameterInit{.std = 0.2, .device = device});
                const NoGrad guard;
                for (const int64_t T : {2, 7, 33})
                    for (const int64_t t : {int64_t{0}, T / 2, T - 2}) {
                        const Tensor tokens = random_tokens({1, T}, static_cast<uint64_t>(T), 300);
                        const Tensor changed = tokens.clone();
                        for (int64_t s = t + 1; s < T; ++s) {
                            int32_t& token = changed.data<int32_t>()[s];
                            token = (token + 1 + static_cast<int32_t>(s % 5)) % 300;
                        }
                        const auto logits = [&](const Tensor& x) {
                            return model.forward(x.to(device), {}).logits.to(Device{}).rows(0, t + 1);
                        };
                        INFO(attention << " " << indexer << " T " << T << " t " << t);
                        CHECK(bit_identical(logits(tokens), logits(changed)));
                    }
            }
    set_precision(Precision::fp32);
}
