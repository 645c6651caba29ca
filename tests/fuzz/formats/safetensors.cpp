// safetensors files as they are: ours, in which any change is found, and one without checksums.
#include "framework/io/safetensors.h"

#include "framework/io/little_endian.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::string foreign_file() {
    const std::string header =
        R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
        R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"U8","shape":[0],"data_offsets":[32,32]}})";
    std::string bytes;
    append_number(bytes, uint64_t{header.size()});
    return bytes + header + std::string(32, '\1');
}

std::vector<std::string> samples() {
    const std::string path = scratch_file("sample.safetensors", "");
    write_safetensors(path, {{"a", Tensor::from<float>({1, 2, 3}, {3})}, {"b", Tensor::full({}, 2.5)}},
                      {{"config.json", "{\"d_model\": 3}"}});
    return {bytes_of_file(path), foreign_file()};
}

const RegisteredFormat registered(
    {.name = "safetensors",
     .samples = samples,
     .read = [](const std::string& input) { read_safetensors(scratch_file("x.safetensors", input)); },
     .finds_every_flip = true});

}  // namespace
}  // namespace sieve::fuzz
