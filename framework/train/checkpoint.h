// Checkpoints of a training run, and the files that a finished run leaves. A checkpoint is one .pt file,
// written atomically and checksummed: weights and optimiser state as tensors, everything else as JSON inside
// the same file.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "framework/program/config.h"
#include "framework/train/trainer.h"

namespace sieve {

struct Checkpoint {
    int64_t stage = 0;  // index into stages_of(config)
    int64_t step = 0;   // steps done in that stage
    TrainingHistory history;
    NamedTensors model, optimizer;
};

void write_checkpoint(const std::string& path, const Checkpoint& checkpoint, const ExperimentConfig& config);
// Throws a bad_file error when the file is not a checkpoint or was written under another configuration,
// naming the first key that differs.
Checkpoint read_checkpoint(const std::string& path, const ExperimentConfig& config);

// final_model.pt: the state dict, loadable by PyTorch; config and tokenizer travel inside the file.
void write_final_model(const std::string& path, const Transformer& model, const ExperimentConfig& config,
                       const std::string& tokenizer_json);

struct FinalModel {
    ExperimentConfig config;
    std::string tokenizer_json;
    std::unique_ptr<Transformer> model;
};
// Throws a bad_file error for a missing, truncated or foreign file.
FinalModel read_final_model(const std::string& path);
// The same from a state dict and the texts "config.json" and "tokenizer.json"; errors begin with `path`.
FinalModel make_final_model(const NamedTensors& tensors, const std::map<std::string, std::string>& texts,
                            const std::string& path);

}  // namespace sieve
