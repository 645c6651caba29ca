#include "framework/io/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "framework/core/error.h"
#include "framework/core/hash.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/io/little_endian.h"
#include "framework/io/tensor_bytes.h"

namespace sieve {
namespace {

using nlohmann::ordered_json;

constexpr size_t prefix_size = 8;
constexpr uint64_t largest_header = 100'000'000;  // the limit of the reference implementation
const std::string metadata_key = "__metadata__", checksums_key = "sieve.checksums";
// The text under that key. A flipped bit may hide one of the two marks, the key or this beginning, but not
// both.
const std::string checksums_mark = "sieve-xxh3 ";
constexpr size_t digits = 16;
constexpr uint64_t text_overhead = 128;  // what a text of the metadata takes beside its bytes

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

// H or T of the checksums.
std::string header_checksum(std::string_view start) {
    return to_hex(ContentHash().add(start).value());
}
std::string tensor_checksum(const std::string& name, const std::string& dtype, const Shape& shape,
                            std::string_view elements) {
    return to_hex(ContentHash().add(name).add(dtype).add(to_string(shape)).add(elements).value());
}

// One tensor of the header.
struct Entry {
    std::string name, dtype;
    ElementType type;
    Shape shape;
    uint64_t begin = 0, end = 0;
};

[[noreturn]] void malformed(const std::string& path, const std::string& name) {
    fail_bad_file(path + ": the header's entry \"" + shortened(name) + "\" is malformed");
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
    const auto dtype = value["dtype"].get<std::string>();
    const auto type = element_type(dtype);
    if (!type)
        fail_bad_file(path + ": tensor \"" + shortened(name) + "\" is of dtype " + shortened(dtype) +
                      "; read are F32, F64, F16, BF16, I32, I64, U8 and BOOL");
    const auto dims = unsigned_numbers(value["shape"], path, name);
    const auto offsets = unsigned_numbers(value["data_offsets"], path, name);
    if (offsets.size() != 2 || offsets[0] > offsets[1] || dims.size() > Shape::max_rank)
        malformed(path, name);
    Entry entry{name, dtype, *type, {}, offsets[0], offsets[1]};
    uint64_t bytes = type->bytes;
    bool overflow = false;
    for (const uint64_t dim : dims) {
        entry.shape.append(static_cast<int64_t>(dim));
        overflow |= __builtin_mul_overflow(bytes, dim, &bytes);
    }
    if (overflow || bytes != entry.end - entry.begin)
        fail_bad_file(path + ": tensor \"" + shortened(name) + "\" has " +
                      std::to_string(entry.end - entry.begin) + " bytes for the shape " +
                      to_string(entry.shape));
    return entry;
}

std::map<std::string, std::string> parse_metadata(const ordered_json& value, const std::string& path,
                                                  MemoryBudget& budget) {
    if (!value.is_object()) malformed(path, metadata_key);
    std::map<std::string, std::string> metadata;
    for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) malformed(path, metadata_key);
        const auto& bytes = text.get_ref<const std::string&>();
        budget.take(text_overhead + key.size() + bytes.size());
        metadata[key] = bytes;
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
            fail_bad_file(path + ": tensor \"" + shortened(entry.name) + "\" begins at byte " +
                          std::to_string(entry.begin) + ", want " + std::to_string(at) +
                          (entry.begin > at ? " (a hole)" : " (an overlap)"));
        at = entry.end;
    }
    if (at == size) return;
    const auto cut =
        std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) { return entry.end > size; });
    const std::string what =
        cut == entries.end() ? "the tensors end" : "tensor \"" + shortened(cut->name) + "\" ends";
    fail_bad_file(path + ": " + what + " at byte " + std::to_string(cut == entries.end() ? at : cut->end) +
                  ", the file has " + std::to_string(size) + " bytes of elements");
}

}  // namespace

void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
    ordered_json header = ordered_json::object();
    std::string checksums = checksums_mark + std::string(digits, '0');
    header[metadata_key] = {{checksums_key, ""}};  // first, so that it is found first
    for (const auto& [key, text] : metadata) header[metadata_key][key] = text;
    uint64_t at = 0;
    std::vector<std::string_view> pieces(1);
    for (const auto& [name, tensor] : tensors) {
        if (name == metadata_key || header.contains(name))
            fail("write_safetensors: the name " + name + " appears twice or is reserved");
        const std::string_view bytes = bytes_of(tensor);
        header[name] = {{"dtype", format_name(tensor.dtype())},
                        {"shape", std::vector<int64_t>(tensor.shape().begin(), tensor.shape().end())},
                        {"data_offsets", {at, at + bytes.size()}}};
        checksums += " " + tensor_checksum(name, format_name(tensor.dtype()), tensor.shape(), bytes);
        at += bytes.size();
        pieces.push_back(bytes);
    }
    header[metadata_key][checksums_key] = checksums;
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');  // so that the elements are aligned
    std::string start;
    append_number(start, uint64_t{text.size()});
    start += text;
    const size_t place = start.find(checksums) + checksums_mark.size();
    start.replace(place, digits, header_checksum(start));
    pieces[0] = start;
    write_file_atomic(path, pieces);
}

namespace {

// The checksums of a file; none when it is not ours. Takes them out of the metadata.
std::optional<std::string> take_checksums(std::map<std::string, std::string>& metadata,
                                          const std::string& path) {
    auto found = metadata.find(checksums_key);
    if (found == metadata.end())
        found = std::find_if(metadata.begin(), metadata.end(),
                             [](const auto& entry) { return entry.second.starts_with(checksums_mark); });
    if (found == metadata.end()) return {};
    std::string checksums = std::move(found->second);
    if (found->first != checksums_key || !checksums.starts_with(checksums_mark))
        fail_bad_file(path + ": the header is damaged (its checksums are not what was written)");
    metadata.erase(found);
    return checksums;
}

// `start`: the file up to its elements. `entries` in the order of the header.
void check_checksums(const std::string& checksums, std::string_view start, std::string_view elements,
                     const std::vector<Entry>& entries, const std::string& path) {
    std::string rest;
    for (const Entry& entry : entries) {
        const std::string_view payload = elements.substr(entry.begin, entry.end - entry.begin);
        const std::string expected = " " + tensor_checksum(entry.name, entry.dtype, entry.shape, payload);
        const size_t place = checksums_mark.size() + digits + rest.size();
        if (place >= checksums.size() || checksums.compare(place, expected.size(), expected) != 0)
            fail_bad_file(
                path + ": tensor \"" + shortened(entry.name) +
                "\" is damaged (its checksum does not match; a program that changes tensors must drop " +
                checksums_key + " from the metadata)");
        rest += expected;
    }
    std::string written(start);
    const size_t place = written.find(checksums);
    if (place != std::string::npos) written.replace(place + checksums_mark.size(), digits, digits, '0');
    if (place == std::string::npos || checksums != checksums_mark + header_checksum(written) + rest)
        fail_bad_file(path + ": the header is damaged (its checksum does not match)");
}

}  // namespace

SafetensorsFile read_safetensors(const std::string& path) {
    const std::string file = read_file(path);
    const std::string_view bytes = file;
    const uint64_t header_size = bytes.size() < prefix_size ? 0 : number_at<uint64_t>(bytes, 0);
    if (bytes.size() < prefix_size + 2 || header_size > largest_header ||
        header_size > bytes.size() - prefix_size || bytes[prefix_size] != '{')
        fail_bad_file(path + ": not a safetensors file (truncated or another format)");
    const std::string_view start = bytes.substr(0, prefix_size + header_size),
                           elements = bytes.substr(start.size());
    SafetensorsFile result;
    std::vector<Entry> entries;
    {
        MemoryBudget budget(bytes.size(), path);
        const ordered_json header = parse_json(start.substr(prefix_size), path + ": header", budget);
        for (const auto& [name, value] : header.items()) {
            if (name == metadata_key) {
                result.metadata = parse_metadata(value, path, budget);
                continue;
            }
            budget.take(tensor_overhead + name.size());
            entries.push_back(parse_entry(name, value, path));
        }
    }
    MemoryBudget budget(bytes.size(), path);  // anew: the document is gone
    budget.take(start.size() + entries.size() * tensor_overhead + elements.size());
    std::vector<Entry> in_order = entries;
    check_layout(in_order, elements.size(), path);
    if (const auto checksums = take_checksums(result.metadata, path))
        check_checksums(*checksums, start, elements, entries, path);
    for (const Entry& entry : in_order) {
        const std::string_view payload = elements.substr(entry.begin, entry.end - entry.begin);
        result.tensors.push_back(
            {entry.name, entry.type.half ? tensor_from_halves(payload, entry.shape, *entry.type.half)
                                         : tensor_from_bytes(payload, entry.shape, entry.type.dtype)});
    }
    return result;
}

}  // namespace sieve
