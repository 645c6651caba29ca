// Training gives the same bits on any number of CPU threads; so a run may go on with another number of them.
#include "framework/core/threads.h"
#include "framework/measure/step_timing.h"
#include "framework/train/trainer.h"
#include "tests/support/precision_scope.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"
#include "tests/support/tiny_training.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

class ThreadScope {
  public:
    explicit ThreadScope(int threads) : before_(thread_count()) { set_thread_count(threads); }
    ~ThreadScope() { set_thread_count(before_); }
    ThreadScope(const ThreadScope&) = delete;
    ThreadScope& operator=(const ThreadScope&) = delete;

  private:
    int before_;
};

// Large enough for the loops to be cut into parts: T 96, 4 windows.
ExperimentConfig enlarged(ExperimentConfig c) {
    c.model.max_seq_len = 96;
    c.model.d_model = 64, c.model.d_ff = 96, c.model.vocab_size = 1000;
    c.batch_size = 4;
    c.classic_steps = c.warmup_steps = c.sparse_steps = 2;
    return c;
}

// Losses, weights and the optimiser's state after the steps of every stage.
NamedTensors trained(const ExperimentConfig& config, int threads) {
    const ThreadScope scope(threads);
    const Transformer model(config.model, ParameterInit{});
    NamedTensors all;
    for (const Stage& stage : stages_of(config)) {
        StageRunner runner(config, model, stage);
        for (int64_t i = 0; i < stage.steps; ++i)
            all.push_back(
                {"loss", Tensor::full({}, runner.step(i, random_batch(config, i)).loss, DType::float64)});
        for (const NamedTensor& s : runner.optimizer_state()) all.push_back({s.name, s.tensor.clone()});
    }
    for (const NamedTensor& p : model.state()) all.push_back(p);
    return all;
}

}  // namespace

TEST_CASE("determinism: the same bits on 1, 2, 3, 5 and 8 threads, in every stage of every variant") {
    for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse})
        for (const NamedConfig& variant : tiny_variants(attention)) {
            INFO(std::string(name_of(attention)) << ", " << variant.name);
            const ExperimentConfig config = enlarged(variant.config);
            const NamedTensors one = trained(config, 1);
            for (const int threads : {2, 3, 5, 8}) {
                const NamedTensors many = trained(config, threads);
                REQUIRE(many.size() == one.size());
                for (size_t i = 0; i < one.size(); ++i) {
                    INFO(one[i].name << " on " << threads << " threads");
                    CHECK(bit_identical(one[i].tensor, many[i].tensor));
                }
            }
        }
}

TEST_CASE("determinism: at bf16 the same bits on 1, 2 and 5 threads, and others than float32's") {
    for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse}) {
        const ExperimentConfig config = enlarged(tiny_config(attention));
        const NamedTensors exact = trained(config, 1);
        const PrecisionScope bf16(Precision::bf16);
        const NamedTensors one = trained(config, 1);
        for (const int threads : {2, 5}) {
            const NamedTensors many = trained(config, threads);
            for (size_t i = 0; i < one.size(); ++i) {
                INFO(one[i].name << " on " << threads << " threads");
                CHECK(bit_identical(one[i].tensor, many[i].tensor));
            }
        }
        CHECK(!bit_identical(one.back().tensor, exact.back().tensor));
    }
}

TEST_CASE("determinism: a run goes on with another number of threads as if it had not stopped") {
    for (const Precision precision : {Precision::fp32, Precision::bf16})
        for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse}) {
            const PrecisionScope scope_of_run(precision);
            const ExperimentConfig config = tiny_config(attention);
            // Stops after `steps` steps, 0: at the end.
            const auto train_in = [&](const std::string& folder, int threads, bool resume, int64_t steps) {
                const ThreadScope scope(threads);
                const Transformer model(config.model, ParameterInit{});
                TrainingHistory history;
                train({.config = config,
                       .data = tiny_data(),
                       .model = model,
                       .folder = folder,
                       .resume_from = resume ? folder : "",
                       .estimated_step_seconds = {0, 0},
                       .quiet = true,
                       .stop_wanted = [&steps] { return --steps == 0; }},
                      history);
                return model.state();
            };
            const TemporaryFolder whole, parts;
            const NamedTensors want = train_in(whole.path().string(), 1, false, 0);
            train_in(parts.path().string(), 2, false, 14);
            const NamedTensors got = train_in(parts.path().string(), 3, true, 0);
            for (size_t i = 0; i < want.size(); ++i) CHECK(bit_identical(got[i].tensor, want[i].tensor));
        }
}
