// The weights of a model in a folder, as Hugging Face's programs leave them: one model.safetensors, or shards
// that model.safetensors.index.json names ({"weight_map": {tensor: file}}).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/core/named_tensor.h"
#include "framework/io/safetensors.h"

namespace sieve {

inline constexpr const char* weights_file = "model.safetensors";
inline constexpr const char* weights_index_file = "model.safetensors.index.json";

// Whether a folder holds such weights: one of the two files.
bool has_safetensors_weights(const std::string& folder);

// Opening it reads the headers of all shards, and no element. Throws a bad_file error for a shard that is
// missing or lies elsewhere, a tensor that two shards hold, an index that does not fit what they hold, and as
// SafetensorsReader does.
class SafetensorsFolder {
  public:
    explicit SafetensorsFolder(const std::string& folder);

    const StoredTensor* find(const std::string& name) const;  // null: there is none
    std::vector<std::string> names() const;                   // in alphabetical order
    uint64_t elements() const;                                // of all tensors
    // As SafetensorsReader::read. Throws unless there is such a tensor.
    void read(const std::string& name, int64_t first, std::span<float> into) const;

  private:
    struct Place {
        const SafetensorsReader* shard;
        size_t tensor;  // in its list
    };
    void open_shard(const std::string& file);
    void check_index(const std::map<std::string, std::string>& files) const;

    std::string folder_;
    std::vector<std::unique_ptr<const SafetensorsReader>> shards_;
    std::map<std::string, Place> places_;
};

// A tensor to write, and the 16-bit format of its elements; none: as it is.
struct TensorToWrite {
    std::string name;
    Tensor tensor;  // on the CPU; float32 where there is a format
    std::optional<NarrowFloat> format;
};

// Writes model.safetensors into a folder that holds no weights, or, when the elements are more than
// `shard_bytes`, shards of at most that (a larger tensor has one of its own) and their index. Memory: one
// shard's tensors that are converted. Throws a bad_file error for a value that the format cannot hold.
void write_safetensors_folder(const std::string& folder, const std::vector<TensorToWrite>& tensors,
                              uint64_t shard_bytes);

}  // namespace sieve
