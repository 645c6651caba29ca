// Checkpoints of a training run, and the files that a finished run leaves. A checkpoint is one .pt file,
// written atomically and checksummed: weights and optimiser state as tensors, everything else as JSON inside
// the same file.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "framework/program/config.h"
#include "framework/train/manifest.h"
#include "framework/train/trainer.h"

namespace sieve {

struct Checkpoint {
    StageKind stage = StageKind::classic;
    int64_t step = 0;  // steps done in that stage
    TrainingHistory history;
    // The last step's numbers when an evaluation is due after it; its line is not in the logs yet.
    std::optional<Measurement> pending;
    // Since the last evaluation.
    int64_t recent_steps = 0;
    double recent_seconds = 0;
    NamedTensors model, optimizer;
};

// folder/checkpoint.pt; the one before becomes checkpoint_previous.pt. A failure leaves both as they were.
void save_checkpoint(const std::string& folder, const Checkpoint& checkpoint, const ExperimentConfig& config);
// Throws a bad_file error when the file is no checkpoint, is damaged, or holds numbers that no run writes.
Checkpoint read_checkpoint(const std::string& path);
// folder/checkpoint.pt, or when that is missing or damaged (as is said on stderr) the one before.
Checkpoint read_last_checkpoint(const std::string& folder);

// final_model.pt, best_model.pt: the state dict, loadable by PyTorch; configuration, tokenizer and the
// manifest of the run that made it travel inside the file.
void write_final_model(const std::string& path, const Transformer& model, const ExperimentConfig& config,
                       const std::string& tokenizer_json, const std::string& manifest_json = "");

struct FinalModel {
    ExperimentConfig config;
    std::string tokenizer_json;
    std::string manifest_json;  // empty in older files
    std::unique_ptr<Transformer> model;
};
// Throws a bad_file error for a missing, truncated or foreign file, and for weights with NaN or infinities.
FinalModel read_final_model(const std::string& path);
// What its run said of itself; none in older files and in those that another program wrote.
std::optional<Manifest> manifest_of(const FinalModel& model, const std::string& path);
// Throws a bad_file error unless the file is the final model of the run that the manifest tells of.
void check_final_model(const std::string& path, const Manifest& manifest);
// The same from a state dict and the texts "config.json" and "tokenizer.json"; errors begin with `path`.
FinalModel make_final_model(const NamedTensors& tensors, const std::map<std::string, std::string>& texts,
                            const std::string& path);

}  // namespace sieve
