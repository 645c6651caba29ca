#include "framework/io/safetensors_folder.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/io/little_endian.h"
#include "framework/io/tensor_bytes.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

std::string bits_text(uint16_t bits, NarrowFloat format) {
    std::string text;
    if (format == NarrowFloat::float8_e4m3)
        append_number(text, static_cast<uint8_t>(bits));
    else
        append_number(text, bits);
    return text;
}

float value_of(uint16_t bits, NarrowFloat format) {
    return float_from_narrow(bits_text(bits, format), 0, format);
}

std::vector<float> all_of(const SafetensorsReader& reader, size_t tensor) {
    const StoredTensor& stored = reader.tensors()[tensor];
    std::vector<float> values(static_cast<size_t>(stored.shape.numel()));
    reader.read(stored, 0, values);
    return values;
}

void write_index(const TemporaryFolder& folder, const nlohmann::ordered_json& files) {
    write_json_atomic(folder / weights_index_file, {{"weight_map", files}});
}

}  // namespace

TEST_CASE("tensor bytes: E4M3 as OCP's table has it") {
    const auto value = [](uint16_t bits) { return value_of(bits, NarrowFloat::float8_e4m3); };
    CHECK(value(0x00) == 0);
    CHECK(value(0x01) == std::ldexp(1.0f, -9));  // the smallest
    CHECK(value(0x07) == std::ldexp(7.0f, -9));  // the largest without a leading 1
    CHECK(value(0x08) == std::ldexp(1.0f, -6));  // the smallest with one
    CHECK(value(0x38) == 1);
    CHECK(value(0x39) == 1.125f);
    CHECK(value(0xC4) == -3);
    CHECK(value(0x7E) == 448);  // the largest
    CHECK(std::isnan(value(0x7F)));
    CHECK(std::isnan(value(0xFF)));
    for (uint16_t bits = 0; bits < 0x7E; ++bits) CHECK(value(bits) < value(bits + 1));
    for (uint16_t bits = 0; bits < 0x7F; ++bits) CHECK(value(bits) == -value(bits | 0x80));
}

TEST_CASE("tensor bytes: the nearest 16-bit number, the even one of two") {
    for (const NarrowFloat format : {NarrowFloat::float16, NarrowFloat::bfloat16}) {
        const uint16_t infinity = format == NarrowFloat::float16 ? 0x7C00 : 0x7F80;
        size_t wrong = 0;
        for (uint16_t bits = 0; bits < infinity; ++bits) {
            const float low = value_of(bits, format);
            // Behind the largest number a power of two would follow: what is nearer to that is infinite.
            const float high =
                bits + 1 < infinity ? value_of(bits + 1, format) : low + (low - value_of(bits - 1, format));
            const float middle =
                std::isinf(high) ? low + (low - value_of(bits - 1, format)) / 2 : low + (high - low) / 2;
            const auto even = static_cast<uint16_t>(bits % 2 == 0 ? bits : bits + 1);
            const auto up = static_cast<uint16_t>(bits + 1);
            wrong += half_from_float(low, format) != bits;
            wrong += half_from_float(-low, format) != (bits | 0x8000);
            wrong += half_from_float(middle, format) != even;
            wrong += half_from_float(std::nextafter(middle, 0.0f), format) != bits;
            wrong += half_from_float(std::nextafter(middle, INFINITY), format) != up;
        }
        CHECK(wrong == 0);
        CHECK(half_from_float(INFINITY, format) == infinity);
        CHECK(half_from_float(-INFINITY, format) == (infinity | 0x8000));
        CHECK(std::isnan(value_of(half_from_float(NAN, format), format)));
    }
}

TEST_CASE("safetensors reader: the tensors of the whole file, and parts of them, of every floating dtype") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.safetensors";
    // More than one block of reading, in odd sizes.
    const Tensor a = random_normal({601, 701}, 1, DType::float32),
                 b = random_normal({3, 5}, 2, DType::float64);
    std::string bf16, f8(255, '\0');
    for (int i = 0; i < 254; ++i) f8[static_cast<size_t>(i)] = static_cast<char>(i == 0x7F ? 1 : i);
    for (int i = 0; i < 6; ++i)
        append_number(bf16, half_from_float(static_cast<float>(i) / 3, NarrowFloat::bfloat16));
    write_safetensors(path, {{"a", "F32", {601, 701}, bytes_of(a)},
                             {"b", "F64", {3, 5}, bytes_of(b)},
                             {"c", "BF16", {2, 3}, bf16},
                             {"h", "F16", {6}, bf16},
                             {"f", "F8_E4M3", {5, 51}, f8},
                             {"i", "I32", {2}, std::string_view(f8).substr(0, 8)}});
    const SafetensorsFile whole = read_safetensors(path);
    const SafetensorsReader reader(path);
    REQUIRE(reader.tensors().size() == 6);
    for (size_t i = 0; i < 5; ++i) {
        INFO(reader.tensors()[i].name);
        const std::vector<float> want = whole.tensors[i].tensor.to(DType::float32).to_vector<float>();
        CHECK(all_of(reader, i) == want);
        std::vector<float> part(3);
        reader.read(reader.tensors()[i], 2, part);
        CHECK(part == std::vector<float>(want.begin() + 2, want.begin() + 5));
    }
    check_error(path + ": tensor \"i\" is of dtype I32, want F32, F64, F16, BF16 or F8_E4M3",
                [&] { all_of(reader, 5); });
}

TEST_CASE(
    "safetensors reader: every flipped bit of a file of ours is found, at the header or at its tensor") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.safetensors";
    write_safetensors(path,
                      {{"a", Tensor::from<float>({1, 2, 3}, {3})}, {"b", Tensor::from<float>({4}, {1})}});
    const std::string good = read_file(path);
    size_t missed = 0;
    for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
        std::string bad = good;
        bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
        write_file_atomic(path, bad);
        try {
            const SafetensorsReader reader(path);
            for (size_t i = 0; i < reader.tensors().size(); ++i) all_of(reader, i);
            ++missed;
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::bad_file);
        }
    }
    CHECK(missed == 0);
    for (const size_t size : {size_t{0}, size_t{5}, size_t{9}, good.size() - 1}) {
        write_file_atomic(path, good.substr(0, size));
        CHECK_THROWS_AS(SafetensorsReader{path}, Error);
    }
}

TEST_CASE("safetensors folder: shards are written by size and read as one") {
    const TemporaryFolder folder;
    const Tensor a = random_normal({10}, 1, DType::float32), b = random_normal({7}, 2, DType::float32),
                 c = random_normal({30}, 3, DType::float32), d = random_normal({1}, 4, DType::float32);
    write_safetensors_folder(folder.path().string(), {{"a", a, {}}, {"b", b, {}}, {"c", c, {}}, {"d", d, {}}},
                             70);
    // 40 + 28, 120, 4 bytes.
    for (const char* name : {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                             "model-00003-of-00003.safetensors"})
        CHECK(std::filesystem::exists(folder / name));
    const auto index = read_json(folder / weights_index_file);
    CHECK(index["metadata"]["total_size"] == 192);
    CHECK(index["weight_map"]["b"] == "model-00001-of-00003.safetensors");
    const SafetensorsFolder files(folder.path().string());
    CHECK(files.names() == std::vector<std::string>{"a", "b", "c", "d"});
    CHECK(files.elements() == 48);
    CHECK(files.find("e") == nullptr);
    std::vector<float> values(30);
    files.read("c", 0, values);
    CHECK(values == c.to_vector<float>());
}

TEST_CASE("safetensors folder: 16-bit formats are written, and what they cannot hold is refused") {
    const TemporaryFolder folder;
    const std::string path = folder.path().string();
    const Tensor values = Tensor::from<float>({1.0f / 3, -70000}, {2});
    write_safetensors_folder(path, {{"a", values, NarrowFloat::bfloat16}, {"b", values, {}}}, 1000);
    std::vector<float> read(2);
    SafetensorsFolder(path).read("a", 0, read);
    CHECK(read == std::vector<float>{0.333984375f, -70144});
    CHECK(SafetensorsFolder(path).find("b")->dtype == "F32");
    check_error(
        folder / "model.safetensors" + ": a holds -70000.000000, which F16 cannot hold; write bf16 or fp32",
        [&] {
            write_safetensors_folder(path, {{"a", values, NarrowFloat::float16}}, 1000);
        });
}

TEST_CASE("safetensors folder: an index is not believed") {
    const TemporaryFolder folder;
    const std::string path = folder.path().string(), index = folder / weights_index_file;
    const auto open = [&] { SafetensorsFolder files(path); };
    check_error(path + ": has neither model.safetensors nor model.safetensors.index.json", open);
    const Tensor one = Tensor::from<float>({1}, {1});
    write_safetensors(folder / "1.safetensors", {{"a", one}, {"b", one}});
    write_safetensors(folder / "2.safetensors", {{"c", one}});
    write_index(folder, {{"a", "1.safetensors"}, {"b", "1.safetensors"}, {"c", "2.safetensors"}});
    open();
    write_index(folder, {{"a", "1.safetensors"}, {"b", "1.safetensors"}, {"c", "3.safetensors"}});
    check_error(index + ": the shard 3.safetensors is not there; was it downloaded?", open);
    write_index(folder, {{"a", "1.safetensors"}, {"b", "2.safetensors"}, {"c", "2.safetensors"}});
    check_error(index + ": the tensor \"b\" is not in 2.safetensors", open);
    write_index(folder, {{"a", "1.safetensors"}, {"c", "2.safetensors"}});
    check_error(folder / "1.safetensors" + ": tensor \"b\" is not in model.safetensors.index.json", open);
    for (const char* name : {"../1.safetensors", "/etc/passwd", "sub/1.safetensors", "..", ""}) {
        write_index(folder, {{"a", name}});
        check_error(
            index + ": the shard \"" + name + "\" is no name of a file beside it; want one without / and ..",
            open);
    }
    write_index(folder, {{"a", std::string(300, 'x')}});
    check_error(index + ": the shard \"" + shortened(std::string(300, 'x')) +
                    "\" is no name of a file beside it; want one without / and ..",
                open);
    write_index(folder, {{"a", 3}});
    check_error(index + ": weight_map.a is 3, want the name of a file", open);
    write_file_atomic(index, "[]");
    check_error(index + ": want an object with a weight_map, {tensor: file}", open);
    write_safetensors(folder / "2.safetensors", {{"a", one}, {"c", one}});
    write_index(folder, {{"a", "1.safetensors"}, {"b", "1.safetensors"}, {"c", "2.safetensors"}});
    check_error(folder / "2.safetensors" + ": tensor \"a\" is in " + (folder / "1.safetensors") + " as well",
                open);
    std::filesystem::remove(folder / "2.safetensors");
    std::filesystem::create_directory(folder / "2.safetensors");
    check_error(folder / "2.safetensors" + ": cannot read: it is no regular file", open);
    write_safetensors(folder / weights_file, {{"a", one}});
    check_error(path +
                    ": has both model.safetensors and model.safetensors.index.json; remove the one that is "
                    "not meant",
                open);
}
