#include "framework/io/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/io/little_endian.h"
#include "framework/io/tensor_bytes.h"

namespace sieve {
namespace {

using nlohmann::ordered_json;

constexpr size_t prefix_size = 8;
constexpr uint64_t largest_header = 100'000'000;  // the limit of the reference implementation
const std::string metadata_key = "__metadata__";

const char* format_name(DType dtype) {
    switch (dtype) {
        case DType::float32:
            return "F32";
        case DType::float64:
            return "F64";
        case DType::int32:
            return "I32";
        case DType::int64:
            return "I64";
        case DType::uint8:
            return "U8";
    }
    return "?";
}

struct ElementType {
    DType dtype;
    size_t bytes;  // in the file
    std::optional<HalfFormat> half;
};

std::optional<ElementType> element_type(const std::string& name) {
    if (name == "F16") return ElementType{DType::float32, 2, HalfFormat::float16};
    if (name == "BF16") return ElementType{DType::float32, 2, HalfFormat::bfloat16};
    if (name == "BOOL") return ElementType{DType::uint8, 1, {}};
    for (const DType dtype : {DType::float32, DType::float64, DType::int32, DType::int64, DType::uint8})
        if (name == format_name(dtype)) return ElementType{dtype, size_of(dtype), {}};
    return {};
}

// One tensor of the header.
struct Entry {
    std::string name;
    ElementType type;
    Shape shape;
    uint64_t begin = 0, end = 0;
};

[[noreturn]] void malformed(const std::string& path, const std::string& name) {
    fail_bad_file(path + ": the header's entry \"" + name + "\" is malformed");
}

std::vector<uint64_t> unsigned_numbers(const ordered_json& value, const std::string& path,
                                       const std::string& name) {
    if (!value.is_array()) malformed(path, name);
    std::vector<uint64_t> numbers;
    for (const ordered_json& item : value) {
        if (!item.is_number_unsigned() || item.get<uint64_t>() > uint64_t{1} << 62) malformed(path, name);
        numbers.push_back(item.get<uint64_t>());
    }
    return numbers;
}

Entry parse_entry(const std::string& name, const ordered_json& value, const std::string& path) {
    if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
        !value.contains("data_offsets") || !value["dtype"].is_string())
        malformed(path, name);
    const auto type = element_type(value["dtype"].get<std::string>());
    if (!type)
        fail_bad_file(path + ": tensor \"" + name + "\" is of dtype " + value["dtype"].get<std::string>() +
                      "; read are F32, F64, F16, BF16, I32, I64, U8 and BOOL");
    const auto dims = unsigned_numbers(value["shape"], path, name);
    const auto offsets = unsigned_numbers(value["data_offsets"], path, name);
    if (offsets.size() != 2 || offsets[0] > offsets[1] || dims.size() > Shape::max_rank)
        malformed(path, name);
    Entry entry{name, *type, {}, offsets[0], offsets[1]};
    uint64_t bytes = type->bytes;
    bool overflow = false;
    for (const uint64_t dim : dims) {
        entry.shape.append(static_cast<int64_t>(dim));
        overflow |= __builtin_mul_overflow(bytes, dim, &bytes);
    }
    if (overflow || bytes != entry.end - entry.begin)
        fail_bad_file(path + ": tensor \"" + name + "\" has " + std::to_string(entry.end - entry.begin) +
                      " bytes for the shape " + to_string(entry.shape));
    return entry;
}

std::map<std::string, std::string> parse_metadata(const ordered_json& value, const std::string& path) {
    if (!value.is_object()) malformed(path, metadata_key);
    std::map<std::string, std::string> metadata;
    for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) malformed(path, metadata_key);
        metadata[key] = text.get<std::string>();
    }
    return metadata;
}

// Sorts the entries by their place and checks that they fill `size` bytes without a hole or an overlap.
void check_layout(std::vector<Entry>& entries, uint64_t size, const std::string& path) {
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
        return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
    });
    uint64_t at = 0;
    for (const Entry& entry : entries) {
        if (entry.begin != at)
            fail_bad_file(path + ": tensor \"" + entry.name + "\" begins at byte " +
                          std::to_string(entry.begin) + ", want " + std::to_string(at) +
                          (entry.begin > at ? " (a hole)" : " (an overlap)"));
        at = entry.end;
    }
    if (at != size)
        fail_bad_file(path + ": the tensors end at byte " + std::to_string(at) + ", the file has " +
                      std::to_string(size) + " bytes of elements");
}

}  // namespace

void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
    ordered_json header = ordered_json::object();
    if (!metadata.empty()) header[metadata_key] = metadata;
    uint64_t at = 0;
    std::vector<std::string_view> pieces(1);
    for (const auto& [name, tensor] : tensors) {
        if (name == metadata_key || header.contains(name))
            fail("write_safetensors: the name " + name + " appears twice or is reserved");
        const std::string_view bytes = bytes_of(tensor);
        header[name] = {{"dtype", format_name(tensor.dtype())},
                        {"shape", std::vector<int64_t>(tensor.shape().begin(), tensor.shape().end())},
                        {"data_offsets", {at, at + bytes.size()}}};
        at += bytes.size();
        pieces.push_back(bytes);
    }
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');  // so that the elements are aligned
    std::string start;
    append_number(start, uint64_t{text.size()});
    start += text;
    pieces[0] = start;
    write_file_atomic(path, pieces);
}

SafetensorsFile read_safetensors(const std::string& path) {
    const std::string file = read_file(path);
    const std::string_view bytes = file;
    const uint64_t header_size = bytes.size() < prefix_size ? 0 : number_at<uint64_t>(bytes, 0);
    if (bytes.size() < prefix_size + 2 || header_size > largest_header ||
        header_size > bytes.size() - prefix_size || bytes[prefix_size] != '{')
        fail_bad_file(path + ": not a safetensors file (truncated or another format)");
    const ordered_json header = parse_json(bytes.substr(prefix_size, header_size), path + ": header");
    const std::string_view elements = bytes.substr(prefix_size + header_size);
    SafetensorsFile result;
    std::vector<Entry> entries;
    for (const auto& [name, value] : header.items()) {
        if (name == metadata_key)
            result.metadata = parse_metadata(value, path);
        else
            entries.push_back(parse_entry(name, value, path));
    }
    check_layout(entries, elements.size(), path);
    for (const Entry& entry : entries) {
        const std::string_view payload = elements.substr(entry.begin, entry.end - entry.begin);
        result.tensors.push_back(
            {entry.name, entry.type.half ? tensor_from_halves(payload, entry.shape, *entry.type.half)
                                         : tensor_from_bytes(payload, entry.shape, entry.type.dtype)});
    }
    return result;
}

}  // namespace sieve
