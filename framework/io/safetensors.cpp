#include "framework/io/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
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
    std::optional<NarrowFloat> narrow;
};

std::optional<ElementType> element_type(const std::string& name) {
    if (name == "F16") return ElementType{DType::float32, 2, NarrowFloat::float16};
    if (name == "BF16") return ElementType{DType::float32, 2, NarrowFloat::bfloat16};
    if (name == "F8_E4M3") return ElementType{DType::float32, 1, NarrowFloat::float8_e4m3};
    if (name == "BOOL") return ElementType{DType::uint8, 1, {}};
    for (const DType dtype : {DType::float32, DType::float64, DType::int32, DType::int64, DType::uint8})
        if (name == format_name(dtype)) return ElementType{dtype, size_of(dtype), {}};
    return {};
}

// H or T of the checksums.
std::string header_checksum(std::string_view start) {
    return to_hex(ContentHash().add(start).value());
}
// T up to the elements, which have so many bytes.
ContentHash& begin_tensor_checksum(ContentHash& hash, const std::string& name, const std::string& dtype,
                                   const Shape& shape, size_t bytes) {
    return hash.add(name).add(dtype).add(to_string(shape)).add(static_cast<int64_t>(bytes));
}
std::string tensor_checksum(const std::string& name, const std::string& dtype, const Shape& shape,
                            std::string_view elements) {
    ContentHash hash;
    return to_hex(begin_tensor_checksum(hash, name, dtype, shape, elements.size()).append(elements).value());
}

ElementType type_of(const StoredTensor& tensor) {
    return *element_type(tensor.dtype);
}

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

StoredTensor parse_entry(const std::string& name, const ordered_json& value, const std::string& path) {
    if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
        !value.contains("data_offsets") || !value["dtype"].is_string())
        malformed(path, name);
    const auto dtype = value["dtype"].get<std::string>();
    const auto type = element_type(dtype);
    if (!type)
        fail_bad_file(path + ": tensor \"" + shortened(name) + "\" is of dtype " + shortened(dtype) +
                      "; read are F32, F64, F16, BF16, F8_E4M3, I32, I64, U8 and "
                      "BOOL");
    const auto dims = unsigned_numbers(value["shape"], path, name);
    const auto offsets = unsigned_numbers(value["data_offsets"], path, name);
    if (offsets.size() != 2 || offsets[0] > offsets[1] || dims.size() > Shape::max_rank)
        malformed(path, name);
    StoredTensor entry{name, dtype, {}, offsets[0], offsets[1]};
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
void check_layout(std::vector<StoredTensor>& entries, uint64_t size, const std::string& path) {
    std::stable_sort(entries.begin(), entries.end(), [](const StoredTensor& a, const StoredTensor& b) {
        return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
    });
    uint64_t at = 0;
    for (const StoredTensor& entry : entries) {
        if (entry.begin != at)
            fail_bad_file(path + ": tensor \"" + shortened(entry.name) + "\" begins at byte " +
                          std::to_string(entry.begin) + ", want " + std::to_string(at) +
                          (entry.begin > at ? " (a hole)" : " (an overlap)"));
        at = entry.end;
    }
    if (at == size) return;
    const auto cut = std::find_if(entries.begin(), entries.end(),
                                  [&](const StoredTensor& entry) { return entry.end > size; });
    const std::string what =
        cut == entries.end() ? "the tensors end" : "tensor \"" + shortened(cut->name) + "\" ends";
    fail_bad_file(path + ": " + what + " at byte " + std::to_string(cut == entries.end() ? at : cut->end) +
                  ", the file has " + std::to_string(size) + " bytes of elements");
}

}  // namespace

void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
    std::vector<TensorPayload> payloads;
    payloads.reserve(tensors.size());
    for (const auto& [name, tensor] : tensors)
        payloads.push_back({name, format_name(tensor.dtype()), tensor.shape(), bytes_of(tensor)});
    write_safetensors(path, payloads, metadata);
}

void write_safetensors(const std::string& path, const std::vector<TensorPayload>& tensors,
                       const std::map<std::string, std::string>& metadata) {
    ordered_json header = ordered_json::object();
    auto& entries = header.get_ref<ordered_json::object_t&>();  // appended to: operator[] would search all
    std::string checksums = checksums_mark + std::string(digits, '0');
    entries.emplace_back(metadata_key,
                         ordered_json{{checksums_key, ""}});  // first, so that it is found first
    for (const auto& [key, text] : metadata) header[metadata_key][key] = text;
    uint64_t at = 0;
    std::vector<std::string_view> pieces(1);
    std::set<std::string> names{metadata_key};
    for (const auto& [name, dtype, shape, bytes] : tensors) {
        if (!names.insert(name).second)
            fail("write_safetensors: the name " + name + " appears twice or is reserved");
        entries.emplace_back(name, ordered_json{{"dtype", dtype},
                                                {"shape", std::vector<int64_t>(shape.begin(), shape.end())},
                                                {"data_offsets", {at, at + bytes.size()}}});
        checksums += " " + tensor_checksum(name, dtype, shape, bytes);
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

[[noreturn]] void refuse_damaged(const std::string& path, const std::string& tensor) {
    fail_bad_file(path + ": tensor \"" + shortened(tensor) +
                  "\" is damaged (its checksum does not match; a program that changes tensors must drop " +
                  checksums_key + " from the metadata)");
}

// The header's own checksum, which covers those of the tensors; they have so many characters.
void check_header_checksum(const std::string& checksums, size_t of_tensors, std::string_view start,
                           const std::string& path) {
    std::string written(start);
    const size_t place = written.find(checksums), begin = checksums_mark.size();
    if (place != std::string::npos) written.replace(place + begin, digits, digits, '0');
    if (place == std::string::npos || checksums.size() != begin + digits + of_tensors ||
        checksums.compare(begin, digits, header_checksum(written)) != 0)
        fail_bad_file(path + ": the header is damaged (its checksum does not match)");
}

// `start`: the file up to its elements. `entries` in the order of the header.
void check_checksums(const std::string& checksums, std::string_view start, std::string_view elements,
                     const std::vector<StoredTensor>& entries, const std::string& path) {
    std::string rest;
    for (const StoredTensor& entry : entries) {
        const std::string_view payload = elements.substr(entry.begin, entry.end - entry.begin);
        const std::string expected = " " + tensor_checksum(entry.name, entry.dtype, entry.shape, payload);
        const size_t place = checksums_mark.size() + digits + rest.size();
        if (place >= checksums.size() || checksums.compare(place, expected.size(), expected) != 0)
            refuse_damaged(path, entry.name);
        rest += expected;
    }
    check_header_checksum(checksums, rest.size(), start, path);
}

// What a file says of itself.
struct Header {
    std::vector<StoredTensor> tensors;  // in its order
    std::map<std::string, std::string> metadata;
};

// `start`: the file up to its elements.
Header parse_header(std::string_view start, MemoryBudget& budget, const std::string& path) {
    Header result;
    const ordered_json header = parse_json(start.substr(prefix_size), path + ": header", budget);
    for (const auto& [name, value] : header.items()) {
        if (name == metadata_key) {
            result.metadata = parse_metadata(value, path, budget);
            continue;
        }
        budget.take(tensor_overhead + name.size());
        result.tensors.push_back(parse_entry(name, value, path));
    }
    return result;
}

// How many bytes of a file of `file_size` that begins with these are not elements.
uint64_t bytes_before_elements(std::string_view prefix, uint64_t file_size, const std::string& path) {
    const uint64_t header_size = prefix.size() < prefix_size ? 0 : number_at<uint64_t>(prefix, 0);
    if (file_size < prefix_size + 2 || prefix.size() <= prefix_size || header_size > largest_header ||
        header_size > file_size - prefix_size || prefix[prefix_size] != '{')
        fail_bad_file(path + ": not a safetensors file (truncated or another format)");
    return prefix_size + header_size;
}

}  // namespace

SafetensorsFile read_safetensors(const std::string& path) {
    const std::string file = read_file(path);
    const std::string_view bytes = file,
                           start = bytes.substr(0, bytes_before_elements(bytes, bytes.size(), path)),
                           elements = bytes.substr(start.size());
    SafetensorsFile result;
    std::vector<StoredTensor> entries;
    {
        MemoryBudget budget(bytes.size(), path);
        Header header = parse_header(start, budget, path);
        entries = std::move(header.tensors);
        result.metadata = std::move(header.metadata);
    }
    MemoryBudget budget(bytes.size(), path);  // anew: the document is gone
    budget.take(start.size() + entries.size() * tensor_overhead + elements.size());
    std::vector<StoredTensor> in_order = entries;
    check_layout(in_order, elements.size(), path);
    if (const auto checksums = take_checksums(result.metadata, path))
        check_checksums(*checksums, start, elements, entries, path);
    for (const StoredTensor& entry : in_order) {
        const std::string_view payload = elements.substr(entry.begin, entry.end - entry.begin);
        const ElementType type = type_of(entry);
        result.tensors.push_back({entry.name, type.narrow
                                                  ? tensor_from_narrow(payload, entry.shape, *type.narrow)
                                                  : tensor_from_bytes(payload, entry.shape, type.dtype)});
    }
    return result;
}

struct SafetensorsReader::File {
    explicit File(std::string name) : path(std::move(name)), fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
        if (fd < 0) fail_to_read();
    }
    ~File() { ::close(fd); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    [[noreturn]] void fail_to_read() const { fail_bad_file(path + ": cannot read: " + std::strerror(errno)); }

    uint64_t size() const {
        struct stat info {};
        if (::fstat(fd, &info) != 0) fail_to_read();
        if (!S_ISREG(info.st_mode)) fail_bad_file(path + ": cannot read: it is no regular file");
        return static_cast<uint64_t>(info.st_size);
    }

    // Fills `into` with the bytes from `at` on. A file that became shorter is an error.
    void read(uint64_t at, std::span<char> into) const {
        while (!into.empty()) {
            const ssize_t got = ::pread(fd, into.data(), into.size(), static_cast<off_t>(at));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) fail_to_read();
            if (got == 0) fail_bad_file(path + ": cannot read: it became shorter while it was read");
            at += static_cast<uint64_t>(got);
            into = into.subspan(static_cast<size_t>(got));
        }
    }

    std::string path;
    int fd;
    uint64_t elements = 0;  // where they begin
    std::vector<StoredTensor> tensors;
    std::map<std::string, std::string> checksums;  // by tensor; empty when the file is not ours
};

namespace {

// Those of the tensors, by name.
std::map<std::string, std::string> checksums_by_name(const std::string& checksums, std::string_view start,
                                                     const std::vector<StoredTensor>& tensors,
                                                     const std::string& path) {
    const size_t begin = checksums_mark.size() + digits, step = 1 + digits;
    check_header_checksum(checksums, step * tensors.size(), start, path);
    std::map<std::string, std::string> by_name;
    for (size_t i = 0; i < tensors.size(); ++i)
        by_name[tensors[i].name] = checksums.substr(begin + step * i + 1, digits);
    return by_name;
}

void to_floats(std::string_view bytes, const ElementType& type, float* into) {
    if (type.narrow)
        floats_from_narrow(bytes, *type.narrow, into);
    else if (type.dtype == DType::float64)
        for (size_t i = 0; i < bytes.size() / sizeof(double); ++i)
            into[i] = static_cast<float>(number_at<double>(bytes, sizeof(double) * i));
    else
        std::memcpy(into, bytes.data(), bytes.size());
}

}  // namespace

SafetensorsReader::SafetensorsReader(const std::string& path) {
    auto file = std::make_unique<File>(path);
    const uint64_t size = file->size();
    std::string start(std::min<uint64_t>(size, prefix_size + 1), '\0');
    file->read(0, start);
    file->elements = bytes_before_elements(start, size, path);
    start.resize(file->elements);
    file->read(0, start);
    MemoryBudget budget(std::min(size, 8 * file->elements),
                        path);  // of the header; the elements stay outside
    Header header = parse_header(start, budget, path);
    std::vector<StoredTensor> in_order = header.tensors;
    check_layout(in_order, size - file->elements, path);
    file->tensors = std::move(header.tensors);
    if (const auto checksums = take_checksums(header.metadata, path))
        file->checksums = checksums_by_name(*checksums, start, file->tensors, path);
    file_ = std::move(file);
}

SafetensorsReader::~SafetensorsReader() = default;

const std::string& SafetensorsReader::path() const {
    return file_->path;
}

const std::vector<StoredTensor>& SafetensorsReader::tensors() const {
    return file_->tensors;
}

void SafetensorsReader::read(const StoredTensor& tensor, int64_t first, std::span<float> into) const {
    constexpr size_t block_bytes = 1 << 20;
    const ElementType type = type_of(tensor);
    if (!is_floating(type.dtype))
        fail_bad_file(file_->path + ": tensor \"" + shortened(tensor.name) + "\" is of dtype " +
                      tensor.dtype + ", want F32, F64, F16, BF16 or F8_E4M3");
    const auto checksum = file_->checksums.find(tensor.name);
    const bool checked =
        checksum != file_->checksums.end() && into.size() * type.bytes == tensor.end - tensor.begin;
    ContentHash hash;
    begin_tensor_checksum(hash, tensor.name, tensor.dtype, tensor.shape, tensor.end - tensor.begin);
    std::string block;
    uint64_t at = file_->elements + tensor.begin + static_cast<uint64_t>(first) * type.bytes;
    while (!into.empty()) {
        const size_t count = std::min(into.size(), block_bytes / type.bytes);
        block.resize(count * type.bytes);
        file_->read(at, block);
        if (checked) hash.append(block);
        to_floats(block, type, into.data());
        at += block.size();
        into = into.subspan(count);
    }
    if (checked && to_hex(hash.value()) != checksum->second) refuse_damaged(file_->path, tensor.name);
}

}  // namespace sieve
