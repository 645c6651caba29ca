#include "framework/io/safetensors_folder.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/core/error.h"
#include "framework/io/json_file.h"
#include "framework/io/little_endian.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// The shards are files of the folder itself: a name from an index may not lead out of it.
void check_shard_name(const std::string& file, const std::string& index) {
    constexpr size_t longest = 255;  // of Linux
    if (file.empty() || file.size() > longest || file == "." || file == ".." ||
        file.find('/') != std::string::npos || file.find('\0') != std::string::npos)
        fail_bad_file(index + ": the shard \"" + shortened(file) +
                      "\" is no name of a file beside it; want one without / and ..");
}

// The file of each tensor.
std::map<std::string, std::string> read_index(const std::string& index) {
    const ordered_json json = read_json(index);
    if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object())
        fail_bad_file(index + ": want an object with a weight_map, {tensor: file}");
    std::map<std::string, std::string> files;
    for (const auto& [tensor, file] : json["weight_map"].items()) {
        if (!file.is_string())
            fail_bad_file(index + ": weight_map." + shortened(tensor) + " is " + shown(file) +
                          ", want the name of a file");
        files[tensor] = file.get<std::string>();
    }
    return files;
}

}  // namespace

bool has_safetensors_weights(const std::string& folder) {
    return fs::exists(fs::path(folder) / weights_file) || fs::exists(fs::path(folder) / weights_index_file);
}

SafetensorsFolder::SafetensorsFolder(const std::string& folder) : folder_(folder) {
    const std::string index = folder + "/" + weights_index_file;
    const bool single = fs::exists(folder + "/" + weights_file), sharded = fs::exists(index);
    if (single && sharded)
        fail_bad_file(folder + ": has both " + weights_file + " and " + weights_index_file +
                      "; remove the one that is not meant");
    if (!single && !sharded)
        fail_bad_file(folder + ": has neither " + weights_file + " nor " + weights_index_file);
    if (single) {
        open_shard(weights_file);
        return;
    }
    const std::map<std::string, std::string> files = read_index(index);
    std::set<std::string> shards;
    for (const auto& [tensor, file] : files) shards.insert(file);
    for (const std::string& shard : shards) {
        check_shard_name(shard, index);
        if (!fs::exists(fs::path(folder) / shard))
            fail_bad_file(index + ": the shard " + shortened(shard) + " is not there; was it downloaded?");
        open_shard(shard);
    }
    check_index(files);
}

void SafetensorsFolder::open_shard(const std::string& file) {
    shards_.push_back(std::make_unique<SafetensorsReader>(folder_ + "/" + file));
    const SafetensorsReader* shard = shards_.back().get();
    for (size_t i = 0; i < shard->tensors().size(); ++i) {
        const std::string& name = shard->tensors()[i].name;
        const auto [place, is_new] = places_.emplace(name, Place{shard, i});
        if (!is_new)
            fail_bad_file(shard->path() + ": tensor \"" + shortened(name) + "\" is in " +
                          place->second.shard->path() + " as well");
    }
}

void SafetensorsFolder::check_index(const std::map<std::string, std::string>& files) const {
    const std::string index = folder_ + "/" + weights_index_file;
    for (const auto& [tensor, file] : files) {
        const auto place = places_.find(tensor);
        if (place == places_.end() || place->second.shard->path() != folder_ + "/" + file)
            fail_bad_file(index + ": the tensor \"" + shortened(tensor) + "\" is not in " + shortened(file));
    }
    for (const auto& [tensor, place] : places_)
        if (!files.contains(tensor))
            fail_bad_file(place.shard->path() + ": tensor \"" + shortened(tensor) + "\" is not in " +
                          weights_index_file);
}

const StoredTensor* SafetensorsFolder::find(const std::string& name) const {
    const auto place = places_.find(name);
    return place == places_.end() ? nullptr : &place->second.shard->tensors()[place->second.tensor];
}

std::vector<std::string> SafetensorsFolder::names() const {
    std::vector<std::string> all;
    all.reserve(places_.size());
    for (const auto& [name, place] : places_) all.push_back(name);
    return all;
}

uint64_t SafetensorsFolder::elements() const {
    uint64_t sum = 0;  // of what lies in files: it cannot overflow
    for (const auto& [name, place] : places_)
        sum += static_cast<uint64_t>(place.shard->tensors()[place.tensor].shape.numel());
    return sum;
}

void SafetensorsFolder::read(const std::string& name, int64_t first, std::span<float> into) const {
    const Place& place = places_.at(name);
    place.shard->read(place.shard->tensors()[place.tensor], first, into);
}

namespace {

uint64_t bytes_to_write(const TensorToWrite& t) {
    return t.format ? static_cast<uint64_t>(t.tensor.numel()) * bytes_of(*t.format)
                    : static_cast<uint64_t>(t.tensor.bytes());
}

const char* format_name(const TensorToWrite& t) {
    if (!t.format) return t.tensor.dtype() == DType::float64 ? "F64" : "F32";
    return *t.format == NarrowFloat::float16 ? "F16" : "BF16";
}

std::string converted(const TensorToWrite& t, const std::string& path) {
    std::string bytes;
    bytes.reserve(bytes_to_write(t));
    const float* values = t.tensor.data<float>();
    for (int64_t i = 0; i < t.tensor.numel(); ++i) {
        append_number(bytes, half_from_float(values[i], *t.format));
        if (std::isfinite(values[i]) && !std::isfinite(float_from_narrow(bytes, bytes.size() - 2, *t.format)))
            fail_bad_file(path + ": " + t.name + " holds " + std::to_string(values[i]) + ", which " +
                          format_name(t) + " cannot hold; write bf16 or fp32");
    }
    return bytes;
}

void write_shard(const std::string& path, std::span<const TensorToWrite> tensors) {
    std::vector<std::string> owned(tensors.size());
    std::vector<TensorPayload> payloads;
    payloads.reserve(tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
        const TensorToWrite& t = tensors[i];
        if (t.format) owned[i] = converted(t, path);
        payloads.push_back({t.name, format_name(t), t.tensor.shape(),
                            t.format ? std::string_view(owned[i]) : bytes_of(t.tensor)});
    }
    write_safetensors(path, payloads, {{"format", "pt"}});
}

// How many tensors each shard takes, in their order.
std::vector<size_t> shard_counts(const std::vector<TensorToWrite>& tensors, uint64_t shard_bytes) {
    std::vector<size_t> counts;
    uint64_t filled = 0;
    for (const TensorToWrite& t : tensors) {
        const uint64_t bytes = bytes_to_write(t);
        if (counts.empty() || filled + bytes > shard_bytes) {
            counts.push_back(0);
            filled = 0;
        }
        ++counts.back();
        filled += bytes;
    }
    return counts;
}

// "model-00002-of-00007.safetensors"
std::string shard_name(size_t shard, size_t shards) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", shard + 1, shards);
    return name;
}

}  // namespace

void write_safetensors_folder(const std::string& folder, const std::vector<TensorToWrite>& tensors,
                              uint64_t shard_bytes) {
    const std::vector<size_t> counts = shard_counts(tensors, shard_bytes);
    if (counts.size() <= 1) return write_shard(folder + "/" + weights_file, tensors);
    ordered_json files = ordered_json::object();
    auto& entries = files.get_ref<ordered_json::object_t&>();  // appended to: operator[] would search all
    uint64_t bytes = 0;
    int64_t parameters = 0;
    size_t first = 0;
    for (size_t shard = 0; shard < counts.size(); ++shard) {
        const std::span<const TensorToWrite> part(tensors.data() + first, counts[shard]);
        const std::string name = shard_name(shard, counts.size());
        write_shard(folder + "/" + name, part);
        for (const TensorToWrite& t : part) {
            entries.emplace_back(t.name, name);
            bytes += bytes_to_write(t);
            parameters += t.tensor.numel();
        }
        first += counts[shard];
    }
    write_json_atomic(folder + "/" + weights_index_file,
                      {{"metadata", {{"total_parameters", parameters}, {"total_size", bytes}}},
                       {"weight_map", std::move(files)}});
}

}  // namespace sieve
