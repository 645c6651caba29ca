// A model as a Hugging Face folder: config.json (program/hf_config.h), its weights as safetensors (io/safetensors_folder.h)
// and tokenizer.json, as `from_pretrained` and `save_pretrained` of transformers have it.
//
// Weights are F32, BF16, F16, F64, or FP8: E4M3 in blocks of 128 x 128, each times its element of the tensor
// `..._scale_inv`. The experts of a layer are one tensor each, or one for all (gate_up_proj, down_proj). The
// layers of multi-token prediction, behind the last, are left out, as stderr says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "framework/io/tensor_bytes.h"
#include "framework/train/checkpoint.h"

namespace sieve {

// Whether read_hf_folder is meant: a folder with a config.json, but no final_model.pt of ours.
bool is_hf_folder(const std::string& path);

// Needs no memory beside the model's but for one tensor. The tokenizer is empty when the folder has none, and
// is not looked at. Throws a bad_file error, before any element is read, for a model that is not computed here,
// and for tensors that are missing, too many or of other shapes.
FinalModel read_hf_folder(const std::string& folder);

// The weights of a folder for a model of that shape: what `init_from` asks for. Its indexers keep their values
// when the folder has none at all; those of a folder that the model lacks are left out. stderr says both.
void load_hf_weights(const std::string& folder, const Transformer& model);

enum class HfDType { fp32, bf16, fp16 };
template <>
inline constexpr auto enum_names<HfDType> = std::to_array<NamedValue<HfDType>>({{HfDType::fp32, "fp32"},
                                                                                {HfDType::bf16, "bf16"},
                                                                                {HfDType::fp16, "fp16"}});

struct HfWriteOptions {
    HfDType dtype = HfDType::fp32;  // but the routers' gates and biases, which stay float32
    uint64_t shard_bytes = uint64_t{5} << 30;
};
// Throws a usage error for a model that the format cannot describe (hf_config), and for a folder that holds
// anything but what such a folder consists of. An existing one is replaced only by a complete new one.
void write_hf_folder(const std::string& folder, const FinalModel& model, const HfWriteOptions& options);
// The same refusals, before there is a model to write.
void check_hf_output(const std::string& folder);

}  // namespace sieve
