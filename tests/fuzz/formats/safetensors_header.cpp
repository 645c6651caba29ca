// The header of a safetensors file, with its true length before it and 64 bytes of elements behind it.
#include "framework/io/little_endian.h"
#include "framework/io/safetensors.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::vector<std::string> samples() {
    return {
        R"({"a":{"dtype":"F32","shape":[4,4],"data_offsets":[0,64]}})",
        R"({"__metadata__":{"k":"v","l":"\u00e9\n"},"b":{"dtype":"I64","shape":[],"data_offsets":[56,64]},)"
        R"("a":{"dtype":"F16","shape":[7,2,2],"data_offsets":[0,56]}})"};
}

void read(const std::string& header) {
    std::string bytes;
    append_number(bytes, uint64_t{header.size()});
    read_safetensors(scratch_file("header.safetensors", bytes + header + std::string(64, '\1')));
}

std::vector<std::string> attacks() {
    constexpr size_t many = 100'000;
    std::string empties = "{", texts = "{\"__metadata__\":{", dims = R"({"a":{"dtype":"U8","shape":[)";
    for (size_t i = 0; i < many; ++i) {
        empties += "\"" + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)";
        texts += "\"" + std::to_string(i) + "\":\"\",";
        dims += "1,";
    }
    return {
        empties + R"("a":{"dtype":"U8","shape":[64],"data_offsets":[0,64]}})",
        texts + R"("a":""},"a":{"dtype":"U8","shape":[64],"data_offsets":[0,64]}})",
        dims + R"(64],"data_offsets":[0,64]}})",
        repeated("[", 4'000'000),
        "{\"__metadata__\":{\"sieve.checksums\":\"" + std::string(4'000'000, '0') + "\"}}",
        "{\"" + std::string(4'000'000, 'x') + "\":{}}",
        R"({"a":{"dtype":"U8","shape":[4611686018427387904,4611686018427387904,0],"data_offsets":[0,0]}})",
        R"({"a":{"dtype":"U8","shape":[0,4611686018427387904,4611686018427387904],"data_offsets":[0,0]}})"};
}

const RegisteredFormat registered({"safetensors_header", samples, read, attacks});

}  // namespace
}  // namespace sieve::fuzz
