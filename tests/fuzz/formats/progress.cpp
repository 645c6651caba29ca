// progress.json inside the checkpoint of a training run.
#include <nlohmann/json.hpp>

#include "framework/io/pt.h"
#include "framework/train/checkpoint.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::vector<std::string> samples() {
    Checkpoint checkpoint{.stage = StageKind::sparse, .step = 2, .recent_steps = 1};
    checkpoint.history["step_loss"] = {9.5, 9.25};
    checkpoint.history["warmup_loss"] = {1, 0.5};
    Measurement measured;
    measured["val_loss"] = 9;
    measured.set_layers("indexer_recall", {0.5, 0.25});
    checkpoint.history.note_evaluation(2, measured);
    save_checkpoint(scratch_folder(), checkpoint, ExperimentConfig());
    return {read_pt(scratch_folder() + "/checkpoint.pt").extra.at("progress.json")};
}

void read(const std::string& progress) {
    const std::string path = scratch_file("progress.pt", "");
    write_pt(path, {},
             {{"config.json", config_to_json(ExperimentConfig()).dump()}, {"progress.json", progress}});
    read_checkpoint(path);
}

const RegisteredFormat registered({"progress", samples, read});

}  // namespace
}  // namespace sieve::fuzz
