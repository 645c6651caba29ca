// What a checkpoint says of its progress is not believed.
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/pt.h"
#include "framework/train/checkpoint.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

Checkpoint checkpoint_at(StageKind stage, int64_t step) {
    Checkpoint c{.stage = stage, .step = step};
    if (stage != StageKind::classic)
        c.history["warmup_loss"].resize(static_cast<size_t>(stage == StageKind::warmup ? step : 4), 1);
    if (stage != StageKind::warmup) c.history["step_loss"].resize(static_cast<size_t>(step), 1);
    c.model = {{"w", Tensor::zeros({2})}};
    return c;
}

}  // namespace

TEST_CASE("checkpoint: infinities among its numbers come back as they were") {
    const TemporaryFolder folder;
    Checkpoint c = checkpoint_at(StageKind::sparse, 5);
    c.pending.emplace();
    (*c.pending)["val_perplexity"] = std::numeric_limits<double>::infinity();
    (*c.pending)["loss"] = -0.0, c.recent_steps = 3, c.recent_seconds = 5e-324;
    Measurement m;
    m["val_loss"] = 1e308, m["val_perplexity"] = std::numeric_limits<double>::infinity();
    c.history.note_evaluation(4, m);
    save_checkpoint(folder.path().string(), c, {});
    const Checkpoint back = read_checkpoint(folder / "checkpoint.pt");
    CHECK(std::isinf((*back.pending)["val_perplexity"]));
    CHECK(std::signbit((*back.pending)["loss"]));
    CHECK(std::isnan((*back.pending)["val_loss"]));
    CHECK(back.recent_seconds == 5e-324);
    CHECK(back.history.last("val_loss") == 1e308);
    CHECK(std::isinf(back.history.last("val_perplexity")));
}

TEST_CASE("checkpoint: steps, stages and histories that no run leaves are refused by name") {
    const TemporaryFolder folder;
    const std::string path = folder / "checkpoint.pt", source = path + ": its progress.json: ";
    const auto save = [&](const Checkpoint& c) { save_checkpoint(folder.path().string(), c, {}); };
    for (const auto& [stage, step] : std::vector<std::pair<StageKind, int64_t>>{{StageKind::classic, 0},
                                                                                {StageKind::classic, 9},
                                                                                {StageKind::warmup, 0},
                                                                                {StageKind::warmup, 4},
                                                                                {StageKind::sparse, 0},
                                                                                {StageKind::sparse, 10}}) {
        save(checkpoint_at(stage, step));
        CHECK(read_checkpoint(path).step == step);
        CHECK(read_checkpoint(path).stage == stage);
    }
    const auto refuse = [&](const std::string& message, const Checkpoint& c) {
        save(c);
        check_error(source + message, [&] { read_checkpoint(path); });
    };
    Checkpoint c = checkpoint_at(StageKind::sparse, 5);
    c.step = -1;
    refuse("step is -1, want a whole number of at least 0", c);
    c.step = 6;
    refuse("6 steps done, but 5 values of step_loss", c);
    c = checkpoint_at(StageKind::warmup, 3);
    c.history["step_loss"] = {1};
    refuse("0 steps done, but 1 values of step_loss", c);
    c = checkpoint_at(StageKind::classic, 3);
    c.history["warmup_loss"] = {1};
    refuse("0 steps done, but 1 values of warmup_loss", c);
    c = checkpoint_at(StageKind::sparse, 5);
    Measurement m;
    m["val_loss"] = 1;
    c.history.note_evaluation(9, m);
    refuse("an evaluation at step 9, but 5 steps done", c);
    c = checkpoint_at(StageKind::sparse, 5);
    c.recent_steps = 6;
    refuse("recent_steps is 6, want at most step, 5", c);
    c.recent_steps = 0, c.pending.emplace(), (*c.pending)["loss"] = 1;
    refuse("an evaluation is pending after no step", c);
    c = checkpoint_at(StageKind::sparse, 5);
    c.recent_seconds = -2;
    refuse("recent_seconds is -2.0, want a number of at least 0", c);

    save(checkpoint_at(StageKind::sparse, 5));
    const PtFile good = read_pt(path);
    const auto damage = [&](const std::string& message, const nlohmann::ordered_json& value,
                            const char* pointer) {
        auto progress = nlohmann::ordered_json::parse(good.extra.at("progress.json"));
        progress[nlohmann::ordered_json::json_pointer(pointer)] = value;
        auto extra = good.extra;
        extra["progress.json"] = progress.dump();
        write_pt(path, good.tensors, extra);
        check_error(source + message, [&] { read_checkpoint(path); });
    };
    damage("step is 1e+300, want a whole number of at least 0", 1e300, "/step");
    damage("step is null, want a whole number of at least 0", nullptr, "/step");
    damage("stage is \"one\", want classic, warm-up or sparse", "one", "/stage");
    damage("stage is 1, want classic, warm-up or sparse", 1, "/stage");
    damage("want one JSON object", 3, "/history");
    damage("pending is 3, want an object of numbers", 3, "/pending");
    damage("pending.loss is \"low\", want a number", {{"loss", "low"}}, "/pending");
    damage("step_loss[2] is \"low\", want a number", "low", "/history/step_loss/2");
    damage("steps[0] is -5, want a step after step 0", nlohmann::ordered_json::array({-5}), "/history/steps");
}
