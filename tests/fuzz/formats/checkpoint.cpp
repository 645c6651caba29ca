// The checkpoint of a training run. Almost every mutation falls to a CRC: progress.cpp has what lies behind
// it.
#include "framework/train/checkpoint.h"

#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::vector<std::string> samples() {
    Checkpoint checkpoint{.stage = StageKind::sparse, .step = 2, .recent_steps = 1};
    checkpoint.history["step_loss"] = {9.5, 9.25};
    checkpoint.model = {{"embed.weight", Tensor::from<float>({1, 2, 3, 4}, {2, 2})}};
    checkpoint.optimizer = {{"embed.weight.exp_avg", Tensor::zeros({2, 2})}};
    save_checkpoint(scratch_folder(), checkpoint, ExperimentConfig());
    return {bytes_of_file(scratch_folder() + "/checkpoint.pt")};
}

void read(const std::string& input) {
    read_checkpoint(scratch_file("x.pt", input));
}

const RegisteredFormat registered(
    {.name = "checkpoint", .samples = samples, .read = read, .finds_every_flip = true});

}  // namespace
}  // namespace sieve::fuzz
