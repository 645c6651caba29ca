// A trained model in the formats that other programs read. Configuration and tokenizer travel inside each
// file, as texts under the names "config.json" and "tokenizer.json":
//
//   .pt           what a run leaves, for torch.load             read and written
//   .safetensors  its metadata has the texts, and format = pt   read and written
//   .onnx         a graph for inference (models/onnx_graph.h)   written
//   a folder      Hugging Face's (hf_folder.h)                  read and written
//
// Weights keep their bits through any chain of .pt, .safetensors and folders of fp32.
#pragma once

#include <string>

#include "framework/data/tokenizer.h"
#include "framework/train/checkpoint.h"
#include "framework/train/hf_folder.h"

namespace sieve {

// A .pt or .safetensors file, the folder of a trained model (its final_model.pt) or a Hugging Face folder. Throws a bad_file error
// for what is missing, truncated, foreign, or a format that is only written.
FinalModel read_model(const std::string& path);

// Throws a bad_file error for a model of a Hugging Face folder without a tokenizer.json, or with one that is not
// supported. `path`: where the model was read from.
Tokenizer tokenizer_of_model(const FinalModel& model, const std::string& path);

// Says once, on stderr, that the model leaks, for programs that show its numbers; nothing of one that does not.
void warn_of_leak(const FinalModel& model);
// Throws a usage error, which begins with `what`, for a model that leaks.
void refuse_leak(const std::string& what, const FinalModel& model);

// In the format that the name's ending says: "name/", and what is a folder of another ending, is a Hugging Face folder. What
// has this name is replaced only by something complete. `options` are of folders.
void write_model(const std::string& path, const FinalModel& model, const HfWriteOptions& options = {});

// Whether write_model makes a folder of this name.
bool is_folder_name(const std::string& path);

// Throws a usage error unless write_model knows the ending of `path`.
void check_model_format(const std::string& path);

}  // namespace sieve
