// model.safetensors.index.json of a Hugging Face folder with two shards.
#include <nlohmann/json.hpp>

#include "framework/io/atomic_file.h"
#include "framework/io/safetensors_folder.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::string folder_of_shards() {
    const std::string folder = scratch_folder() + "/hf_shards";
    make_folder(folder);
    write_safetensors_folder(
        folder,
        {{"a", Tensor::full({2}, 1), {}}, {"b", Tensor::full({3}, 2), {}}, {"c", Tensor::full({4}, 3), {}}},
        20);
    return folder;
}

std::vector<std::string> samples() {
    return {bytes_of_file(folder_of_shards() + "/" + weights_index_file)};
}

void read(const std::string& text) {
    static const std::string folder = folder_of_shards();
    write_file_atomic(folder + "/" + weights_index_file, text);
    const SafetensorsFolder files(folder);
    expect(files.names() == std::vector<std::string>{"a", "b", "c"}, "every tensor of the shards is there");
}

std::vector<std::string> attacks() {
    std::string tensors = R"({"weight_map":{)", shards = tensors;
    for (int i = 0; i < 100'000; ++i) {
        tensors += "\"" + std::to_string(i) + R"(":"model-00001-of-00002.safetensors",)";
        shards += "\"" + std::to_string(i) + "\":\"" + std::to_string(i) + "\",";
    }
    const std::string end = R"("a":"model-00001-of-00002.safetensors"}})";
    return {tensors + end, shards + end, R"({"weight_map":{"a":")" + repeated("../", 1'000'000) + "\"}}",
            R"({"weight_map":)" + repeated("[", 4'000'000)};
}

const RegisteredFormat registered({"hf_index", samples, read, attacks});

}  // namespace
}  // namespace sieve::fuzz
