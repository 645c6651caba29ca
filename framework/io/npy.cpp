#include "framework/io/npy.h"

#include <charconv>
#include <optional>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/little_endian.h"
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

DType dtype_from(const std::string& type, const std::string& path) {
    if (type == "<f4") return DType::float32;
    if (type == "<f8") return DType::float64;
    if (type == "<i4") return DType::int32;
    if (type == "<i8") return DType::int64;
    if (type == "|u1" || type == "|b1") return DType::uint8;
    fail_bad_file(path + ": its elements are '" + type + "'; read are <f4, <f8, <i4, <i8, |u1 and |b1");
}

Tensor parse_npy(std::string_view bytes, const std::string& path) {
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
    const DType dtype = dtype_from(header.type, path);
    int64_t wanted = static_cast<int64_t>(size_of(dtype));
    bool overflow = false;
    for (const int64_t dim : header.shape) overflow |= __builtin_mul_overflow(wanted, dim, &wanted);
    const std::string_view payload = bytes.substr(start + size);
    if (overflow || static_cast<int64_t>(payload.size()) != wanted)
        fail_bad_file(path + ": " + std::to_string(payload.size()) + " bytes for an array " +
                      to_string(header.shape) + " of '" + header.type + "'");
    return tensor_from_bytes(payload, header.shape, dtype);
}

}  // namespace

void write_npy(const std::string& path, const Tensor& tensor, NpyBool as_bool) {
    const std::string header = npy_header(tensor, as_bool);
    const std::string_view pieces[] = {header, bytes_of(tensor)};
    write_file_atomic(path, pieces);
}

Tensor read_npy(const std::string& path) {
    return parse_npy(read_file(path), path);
}

void write_npz(const std::string& path, const NamedTensors& tensors, NpyBool as_bool) {
    ZipWriter zip(path);
    for (const auto& [name, tensor] : tensors)
        zip.add_owned(name + ".npy", npy_header(tensor, as_bool) + std::string(bytes_of(tensor)));
    zip.write();
}

NamedTensors read_npz(const std::string& path) {
    const std::string bytes = read_file(path);
    NamedTensors result;
    for (const ZipMember& member : read_zip(bytes, path, ".npz archive")) {
        if (!member.name.ends_with(".npy"))
            fail_bad_file(path + ": member " + member.name + " is no .npy array");
        result.push_back({member.name.substr(0, member.name.size() - 4),
                          parse_npy(member.payload, path + ": " + member.name)});
    }
    return result;
}

}  // namespace sieve
