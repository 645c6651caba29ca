#include "framework/io/safetensors.h"

#include <fmt/format.h>

#include <fstream>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/little_endian.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

void write_raw(const std::string& path, const std::string& header, const std::string& elements) {
    std::string bytes;
    append_number(bytes, uint64_t{header.size()});
    write_file_atomic(path, bytes + header + elements);
}

}  // namespace

TEST_CASE("safetensors: tensors and metadata survive") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.safetensors";
    NamedTensors tensors;
    for (const DType dtype : {DType::float32, DType::float64, DType::int32, DType::int64, DType::uint8})
        tensors.push_back({name_of(dtype), random_uniform({3, 5}, 1, 0, 99, dtype)});
    tensors.push_back({"empty", Tensor::zeros({0, 4})});
    tensors.push_back({"scalar", Tensor::full({}, 2)});
    const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"config", "{\"a\": \"\u00e9\"}"}};
    write_safetensors(path, tensors, metadata);
    const SafetensorsFile file = read_safetensors(path);
    CHECK(file.metadata == metadata);
    REQUIRE(file.tensors.size() == tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
        CHECK(file.tensors[i].name == tensors[i].name);
        CHECK(bit_identical(file.tensors[i].tensor, tensors[i].tensor));
    }
    CHECK(number_at<uint64_t>(read_file(path), 0) % 8 == 0);
}

TEST_CASE("safetensors: 16-bit floats and bools are widened") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.safetensors";
    write_raw(path,
              R"({"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
              R"("b":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]},)"
              R"("m":{"dtype":"BOOL","shape":[2],"data_offsets":[6,8]}})",
              std::string("\x00\x3e\x00\xc0\x80\x3f\x01\x00", 8));
    const SafetensorsFile file = read_safetensors(path);
    CHECK(bit_identical(file.tensors[0].tensor, Tensor::from<float>({1.5f, -2}, {2})));
    CHECK(bit_identical(file.tensors[1].tensor, Tensor::from<float>({1}, {1})));
    CHECK(bit_identical(file.tensors[2].tensor, Tensor::from<uint8_t>({1, 0}, {2})));
}

TEST_CASE("safetensors: holes, overlaps, repeats, trailing bytes and wrong sizes are refused") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.safetensors";
    const auto check = [&](const std::string& header, const std::string& elements,
                           const std::string& sentence) {
        write_raw(path, header, elements);
        check_error(path + ": " + sentence, [&] { read_safetensors(path); });
    };
    const std::string a = R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]})";
    check("{" + a + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}})", "1234",
          "tensor \"b\" begins at byte 3, want 2 (a hole)");
    check("{" + a + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", "123",
          "tensor \"b\" begins at byte 1, want 2 (an overlap)");
    check("{" + a + "," + a + "}", "12", "header: the key \"a\" appears twice in one object");
    check("{" + a + "}", "123", "the tensors end at byte 2, the file has 3 bytes of elements");
    check("{" + a + "}", "1", "tensor \"a\" ends at byte 2, the file has 1 bytes of elements");
    check(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,2]}})", "12",
          "tensor \"a\" has 2 bytes for the shape [3]");
    check(R"({"a":{"dtype":"F8","shape":[2],"data_offsets":[0,2]}})", "12",
          "tensor \"a\" is of dtype F8; read are F32, F64, F16, BF16, F8_E4M3, I32, I64, U8 and BOOL");
    check(R"({"a":{"dtype":"U8","shape":[-2],"data_offsets":[0,2]}})", "12",
          "the header's entry \"a\" is malformed");
    check(R"({"__metadata__":{"x":1}})", "", "the header's entry \"__metadata__\" is malformed");
    write_file_atomic(path, "PK");
    check_error(path + ": not a safetensors file (truncated or another format)",
                [&] { read_safetensors(path); });
}

namespace {

// The message of reading the file, or nothing.
std::string error_of(const std::string& path) {
    try {
        read_safetensors(path);
        return "";
    } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::bad_file);
        return e.what();
    }
}

}  // namespace

TEST_CASE("safetensors: every flipped bit of a file of ours is found, and every truncation") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.safetensors";
    write_safetensors(path,
                      {{"weight", Tensor::from<float>({1, 2, 3, 4}, {2, 2})},
                       {"bias", Tensor::from<uint8_t>({5, 6, 7}, {3})},
                       {"none", Tensor::zeros({0})}},
                      {{"config.json", "{\"a\": \"b\\\\\"}\n"}, {"format", "pt"}});
    const std::string whole = read_file(path);
    const size_t elements = whole.size() - 19;
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    size_t found = 0;
    for (size_t at = 0; at < whole.size(); ++at) {
        for (int bit = 0; bit <= 8; ++bit) {
            file.seekp(static_cast<std::streamoff>(at));
            file.put(static_cast<char>(bit < 8 ? whole[at] ^ 1 << bit : whole[at])).flush();
            if (bit == 8) continue;
            const std::string error = error_of(path);
            INFO("bit " << bit << " of byte " << at);
            CHECK(error.starts_with(path + ": "));
            found += !error.empty();
            if (at >= elements)  // the tensor is named
                CHECK(error.starts_with(path + (at < elements + 16 ? ": tensor \"weight\" is damaged"
                                                                   : ": tensor \"bias\" is damaged")));
        }
    }
    CHECK(error_of(path).empty());
    for (size_t size = 0; size < whole.size(); ++size) {
        std::ofstream(path, std::ios::binary) << whole.substr(0, size);
        const std::string error = error_of(path);
        CHECK(!error.empty());
        if (size >= elements)
            CHECK(error.starts_with(
                path + (size < elements + 16 ? ": tensor \"weight\" ends" : ": tensor \"bias\" ends")));
    }
    std::ofstream(path, std::ios::binary) << whole << '\0';
    CHECK(!error_of(path).empty());
    fmt::print("safetensors: {} of {} flipped bits and {} truncations found\n", found, 8 * whole.size(),
               whole.size());
    CHECK(found == 8 * whole.size());
}

TEST_CASE("safetensors: a program that changes a tensor is told what to do about the checksums") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.safetensors";
    write_safetensors(path, {{"w", Tensor::from<float>({1, 2}, {2})}});
    std::string bytes = read_file(path);
    bytes[bytes.size() - 1] ^= 1;
    write_file_atomic(path, bytes);
    check_error(
        path +
            ": tensor \"w\" is damaged (its checksum does not match; a program that changes tensors must "
            "drop sieve.checksums from the metadata)",
        [&] { read_safetensors(path); });
    // Without them it is any file.
    const size_t key = bytes.find("\"__metadata__\""), end = bytes.find("},", key) + 2;
    const std::string header = bytes.substr(8, key - 8) + bytes.substr(end, bytes.size() - end - 8);
    write_raw(path, header, bytes.substr(bytes.size() - 8));
    CHECK(read_safetensors(path).tensors.size() == 1);
    CHECK(read_safetensors(path).metadata.empty());
}

TEST_CASE("safetensors: truncated or with flipped bytes, only an Error comes out") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.safetensors";
    write_safetensors(path, {{"a", random_normal({3, 2}, 1)}, {"b", Tensor::zeros({5})}}, {{"k", "v"}});
    const std::string whole = read_file(path);
    for (size_t i = 0; i < whole.size(); ++i) {
        write_file_atomic(path, whole.substr(0, i));
        CHECK_THROWS_AS(read_safetensors(path), Error);
        std::string bytes = whole;
        bytes[i] = static_cast<char>(philox({4, 1}, i).v[0]);
        write_file_atomic(path, bytes);
        try {
            read_safetensors(path);
        } catch (const Error&) {
        }
    }
}
