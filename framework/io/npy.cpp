#include "framework/io/npy.h"

#include <charconv>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/little_endian.h"
#include "framework/io/memory_budget.h"
#include "framework/io/tensor_bytes.h"
#include "framework/io/zip.h"

namespace sieve {
namespace {

constexpr std::string_view magic = "\x93NUMPY";

std::string descriptor(DType dtype, NpyBool as_bool) {
    switch (dtype) {
        case DType::float32:
            return "<f4";
        case DType::float64:
            return "<f8";
        case DType::int32:
            return "<i4";
        case DType::int64:
            return "<i8";
        case DType::uint8:
            return as_bool == NpyBool::yes ? "|b1" : "|u1";
    }
    return "?";
}

// Magic, version 1.0 and the header, a Python dict, padded so that the elements begin at a multiple of 64.
std::string npy_header(const Tensor& tensor, NpyBool as_bool) {
    std::string shape;
    for (const int64_t dim : tensor.shape()) shape += std::to_string(dim) + ",";
    if (tensor.rank() > 1) shape.pop_back();
    std::string dict = "{'descr': '" + descriptor(tensor.dtype(), as_bool) +
                       "', 'fortran_order': False, 'shape': (" + shape + "), }";
    constexpr size_t prefix = 10;
    dict.append((64 - (prefix + dict.size() + 1) % 64) % 64, ' ');
    dict += '\n';
    std::string header(magic);
    header += std::string("\x01\x00", 2);
    append_number(header, static_cast<uint16_t>(dict.size()));
    return header + dict;
}

// Reads the header's dict literal: three keys in any order.
class HeaderParser {
  public:
    HeaderParser(std::string_view text, const std::string& path) : text_(text), path_(path) {}

    std::string type;
    Shape shape;

    void parse() {
        expect('{');
        while (!accept('}')) {
            const std::string key = string();
            expect(':');
            if (key == "descr") {
                if (peek() == '[') fail_bad_file(path_ + ": a structured array; only plain numbers are read");
                type = string();
            } else if (key == "fortran_order") {
                order();
            } else if (key == "shape") {
                dims();
            } else {
                malformed();
            }
            accept(',');
        }
        if (peek() != '\0' || !has_shape_ || type.empty()) malformed();
    }

  private:
    [[noreturn]] void malformed() const { fail_bad_file(path_ + ": its .npy header is malformed"); }

    char peek() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
        return at_ < text_.size() ? text_[at_] : '\0';
    }
    bool accept(char c) {
        if (peek() != c) return false;
        ++at_;
        return true;
    }
    void expect(char c) {
        if (!accept(c)) malformed();
    }
    bool accept_word(std::string_view word) {
        peek();
        if (!text_.substr(at_).starts_with(word)) return false;
        at_ += word.size();
        return true;
    }

    std::string string() {
        expect('\'');
        const size_t end = text_.find('\'', at_);
        if (end == std::string_view::npos) malformed();
        const std::string value(text_.substr(at_, end - at_));
        at_ = end + 1;
        return value;
    }

    void order() {
        if (accept_word("True"))
            fail_bad_file(path_ + ": in Fortran order; save np.ascontiguousarray(x) instead");
        if (!accept_word("False")) malformed();
    }

    void dims() {
        expect('(');
        while (!accept(')')) {
            int64_t dim = 0;
            peek();
            const auto [end, code] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), dim);
            if (code != std::errc() || dim < 0) malformed();
            at_ = static_cast<size_t>(end - text_.data());
            if (shape.rank() == Shape::max_rank)
                fail_bad_file(path_ + ": more than " + std::to_string(Shape::max_rank) + " dims");
            shape.append(dim);
            accept(',');
        }
        has_shape_ = true;
    }

    std::string_view text_;
    const std::string& path_;
    size_t at_ = 0;
    bool has_shape_ = false;
};

// A type of element that is read.
struct ElementType {
    const char* name;
    int64_t bytes;
    DType dtype;  // of the tensor
    enum { as_it_is, int8, int16, uint16, uint32, uint64 } stored = as_it_is;
};

constexpr ElementType element_types[] = {
    {"<f4", 4, DType::float32},
    {"<f8", 8, DType::float64},
    {"<i4", 4, DType::int32},
    {"<i8", 8, DType::int64},
    {"|u1", 1, DType::uint8},
    {"|b1", 1, DType::uint8},
    {"|i1", 1, DType::int32, ElementType::int8},
    {"<i2", 2, DType::int32, ElementType::int16},
    {"<u2", 2, DType::int32, ElementType::uint16},
    {"<u4", 4, DType::int64, ElementType::uint32},
    {"<u8", 8, DType::int64, ElementType::uint64},
};

const ElementType& element_type(const std::string& name, const std::string& path) {
    for (const ElementType& type : element_types)
        if (name == type.name) return type;
    fail_bad_file(path + ": its elements are '" + shortened(name) +
                  "'; read are <f4, <f8, whole numbers of 8 to 64 bits (little-endian) and |b1");
}

template <class Stored, class Wider>
Tensor widened(std::string_view payload, const Shape& shape, const std::string& path) {
    std::vector<Wider> values(payload.size() / sizeof(Stored));
    for (size_t i = 0; i < values.size(); ++i) {
        const auto value = number_at<Stored>(payload, i * sizeof(Stored));
        if (std::cmp_greater(value, std::numeric_limits<Wider>::max()))
            fail_bad_file(path + ": element " + std::to_string(i) + " is " + std::to_string(value) +
                          ", want less than 2^63");
        values[i] =
            static_cast<Wider>(value);  // NOLINT(bugprone-signed-char-misuse): numbers, not characters
    }
    return Tensor::from(values, shape);
}

Tensor tensor_of(std::string_view payload, const Shape& shape, const ElementType& type,
                 const std::string& path) {
    switch (type.stored) {
        case ElementType::as_it_is:
            break;
        case ElementType::int8:
            return widened<int8_t, int32_t>(payload, shape, path);
        case ElementType::int16:
            return widened<int16_t, int32_t>(payload, shape, path);
        case ElementType::uint16:
            return widened<uint16_t, int32_t>(payload, shape, path);
        case ElementType::uint32:
            return widened<uint32_t, int64_t>(payload, shape, path);
        case ElementType::uint64:
            return widened<uint64_t, int64_t>(payload, shape, path);
    }
    return tensor_from_bytes(payload, shape, type.dtype);
}

struct NpyArray {
    Tensor tensor;
    std::string type;
};

NpyArray parse_npy(std::string_view bytes, const std::string& path) {
    const auto truncated = [&] { fail_bad_file(path + ": not an .npy array (truncated or another format)"); };
    if (bytes.size() < 12 || !bytes.starts_with(magic)) truncated();
    const auto major = number_at<uint8_t>(bytes, 6);
    if (major < 1 || major > 3)
        fail_bad_file(path + ": .npy format version " + std::to_string(major) + ", want 1 to 3");
    const size_t start = major == 1 ? 10 : 12;
    const size_t size = major == 1 ? number_at<uint16_t>(bytes, 8) : number_at<uint32_t>(bytes, 8);
    if (size > bytes.size() - start) truncated();
    HeaderParser header(bytes.substr(start, size), path);
    header.parse();
    const ElementType& type = element_type(header.type, path);
    int64_t wanted = type.bytes;
    bool overflow = false;
    for (const int64_t dim : header.shape) overflow |= __builtin_mul_overflow(wanted, dim, &wanted);
    const std::string_view payload = bytes.substr(start + size);
    if (overflow || static_cast<int64_t>(payload.size()) != wanted)
        fail_bad_file(path + ": " + std::to_string(payload.size()) + " bytes for an array " +
                      to_string(header.shape) + " of '" + header.type + "'");
    return {tensor_of(payload, header.shape, type, path), header.type};
}

}  // namespace

void write_npy(const std::string& path, const Tensor& tensor, NpyBool as_bool) {
    const std::string header = npy_header(tensor, as_bool);
    const std::string_view pieces[] = {header, bytes_of(tensor)};
    write_file_atomic(path, pieces);
}

Tensor read_npy(const std::string& path) {
    return parse_npy(read_file(path), path).tensor;
}

Tensor read_npy_integers(const std::string& path) {
    const NpyArray array = parse_npy(read_file(path), path);
    if (array.type == "|b1" || array.type == "<f4" || array.type == "<f8")
        fail_bad_file(path + ": its elements are '" + array.type + "' (" +
                      (array.type == "|b1" ? "truth values" : "floats") + "), want whole numbers");
    return array.tensor.to(DType::int64);
}

void write_npz(const std::string& path, const NamedTensors& tensors, NpyBool as_bool) {
    ZipWriter zip(path);
    for (const auto& [name, tensor] : tensors)
        zip.add_owned(name + ".npy", npy_header(tensor, as_bool) + std::string(bytes_of(tensor)));
    zip.write();
}

NamedTensors read_npz(const std::string& path) {
    const std::string bytes = read_file(path);
    MemoryBudget budget(bytes.size(), path);
    NamedTensors result;
    for (const ZipMember& member : read_zip(bytes, path, ".npz archive")) {
        const std::string name = shortened(member.name);
        if (!member.name.ends_with(".npy")) fail_bad_file(path + ": member " + name + " is no .npy array");
        budget.take(tensor_overhead + member.name.size() + member.payload.size());
        result.push_back({std::string(member.name.substr(0, member.name.size() - 4)),
                          parse_npy(member.payload, path + ": " + name).tensor});
    }
    return result;
}

}  // namespace sieve
