// A step that runs out of memory, wherever it does, leaves everything as it was; and steps take no more
// memory as they go on.
#include <unistd.h>

#include <fstream>
#include <new>

#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/train/trainer.h"
#include "tests/support/failing_new.h"
#include "tests/support/sanitized.h"
#include "tests/support/testing.h"
#include "tests/support/tiny_training.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

// Weights, gradients' absence, optimiser state: what a failed step must leave alone.
struct Snapshot {
    NamedTensors state;

    Snapshot(const Transformer& model, const StageRunner& runner) {
        for (const NamedTensors& part : {model.state(), runner.optimizer_state()})
            for (const NamedTensor& t : part) state.push_back({t.name, t.tensor.clone()});
    }
    bool same_as(const Transformer& model, const StageRunner& runner) const {
        size_t i = 0;
        for (const NamedTensors& part : {model.state(), runner.optimizer_state()})
            for (const NamedTensor& t : part)
                if (!bit_identical(state[i++].tensor, t.tensor)) return false;
        return true;
    }
};

enum class Ended { done, out_of_memory };

Ended try_step(StageRunner& runner, int64_t index, const Batch& batch) {
    try {
        runner.step(index, batch);
        return Ended::done;
    } catch (const std::bad_alloc&) {
        return Ended::out_of_memory;
    } catch (const Error& e) {
        REQUIRE_MESSAGE(e.kind() == ErrorKind::out_of_memory, std::string(e.what()));
        REQUIRE(!e.lower().empty());  // what to lower
        return Ended::out_of_memory;
    }
}

// Lets the n-th allocation of a step fail for n = 1, 1 + stride, ... until one is not reached. Returns how
// many failed.
int64_t fail_each(const ExperimentConfig& config, const Stage& stage, int64_t stride,
                  void (*fail_after)(int64_t)) {
    const Transformer model(config.model, ParameterInit{}), twin(config.model, ParameterInit{});
    StageRunner runner(config, model, stage), of_twin(config, twin, stage);
    for (int64_t i = 0; i < 2; ++i) {  // the optimiser has a past
        runner.step(i, tiny_data().batch(i));
        of_twin.step(i, tiny_data().batch(i));
    }
    const Batch batch = tiny_data().batch(2);
    const Snapshot before(model, runner);
    const int64_t live = memory_stats().live_bytes;
    int64_t failed = 0;
    for (int64_t n = 1;; n += stride) {
        fail_after(n);
        const Ended ended = try_step(runner, 2, batch);
        fail_after(0);
        if (ended == Ended::done) break;
        ++failed;
        REQUIRE(memory_stats().live_bytes == live);
        REQUIRE(before.same_as(model, runner));
    }
    of_twin.step(2, batch);
    CHECK(Snapshot(twin, of_twin).same_as(model, runner));
    return failed;
}

}  // namespace

TEST_CASE("memory: the n-th allocation of tensors in a step fails, for every n; the step then succeeds") {
    for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse})
        for (const NamedConfig& variant : tiny_variants(attention)) {
            if (!full_tests() && attention == AttentionKind::classic && variant.name != "plain") continue;
            for (const Stage& stage : stages_of(variant.config)) {
                INFO(std::string(name_of(stage.kind)) << ", " << variant.name);
                const int64_t failed = fail_each(variant.config, stage, full_tests() ? 1 : 7,
                                                 [](int64_t n) { fail_allocation_after(n); });
                CHECK(failed > 20);
                MESSAGE(std::string(name_of(stage.kind))
                        << ", " << variant.name << ": " << failed << " failed allocations of tensors");
            }
        }
}

TEST_CASE("memory: the n-th `new` in a step fails, for every n; the step then succeeds") {
    if (!can_fail_new()) return skip("a sanitizer has its own operator new");
    for (const NamedConfig& variant : tiny_variants(AttentionKind::sparse)) {
        if (!full_tests() && variant.name == "adamw") continue;
        for (const Stage& stage : stages_of(variant.config)) {
            INFO(std::string(name_of(stage.kind)) << ", " << variant.name);
            const int64_t failed = fail_each(variant.config, stage, full_tests() ? 1 : 29, fail_new_after);
            CHECK(failed > 30);
            MESSAGE(std::string(name_of(stage.kind))
                    << ", " << variant.name << ": " << failed << " failed calls of new");
        }
    }
}

namespace {

int64_t resident_bytes() {
    std::ifstream file("/proc/self/statm");
    int64_t pages = 0, resident = 0;
    file >> pages >> resident;
    return resident * ::sysconf(_SC_PAGESIZE);
}

}  // namespace

TEST_CASE("memory: flat over many steps") {
    const int64_t steps = full_tests() ? 2000 : 200;
    for (const AttentionKind attention : {AttentionKind::classic, AttentionKind::sparse}) {
        const ExperimentConfig config = tiny_config(attention);
        const Transformer model(config.model, ParameterInit{});
        StageRunner runner(config, model,
                           {.kind = stages_of(config).back().kind,
                            .steps = steps,
                            .peak_learning_rate = config.learning_rate});
        int64_t live = 0, resident = 0, most = 0;
        for (int64_t i = 0; i < steps; ++i) {
            runner.step(i, tiny_data().batch(i));
            if (i == steps / 4) live = memory_stats().live_bytes, resident = resident_bytes();
            if (i > steps / 4) most = std::max(most, resident_bytes());
        }
        CHECK(memory_stats().live_bytes == live);
        MESSAGE(std::string(name_of(attention))
                << ": " << steps << " steps, resident " << (resident >> 10)
                << " KiB after a quarter of them, at most " << (most >> 10) << " KiB later");
        // A sanitizer keeps what was freed for a while.
        if (!sanitized) CHECK(most - resident < (2 << 20));
    }
}
