// A trained model in the formats that other programs read. Configuration and tokenizer travel inside each
// file, as texts under the names "config.json" and "tokenizer.json":
//
//   .pt           what a run leaves, for torch.load             read and written
//   .safetensors  its metadata has the texts, and format = pt   read and written
//   .onnx         a graph for inference (models/onnx_graph.h)   written
//
// Weights keep their bits through any chain of .pt and .safetensors.
#pragma once

#include <string>

#include "framework/train/checkpoint.h"

namespace sieve {

// A .pt or .safetensors file, or the folder of a trained model (its final_model.pt). Throws a bad_file error
// for what is missing, truncated, foreign, or a format that is only written.
FinalModel read_model(const std::string& path);

// Says once, on stderr, that the model leaks, for programs that show its numbers; nothing of one that does not.
void warn_of_leak(const FinalModel& model);
// Throws a usage error, which begins with `what`, for a model that leaks.
void refuse_leak(const std::string& what, const FinalModel& model);

// In the format that the name's ending says; a file of this name is replaced only by a complete new one.
void write_model(const std::string& path, const FinalModel& model);

// Throws a usage error unless write_model knows the ending of `path`.
void check_model_format(const std::string& path);

}  // namespace sieve
