// safetensors (https://github.com/huggingface/safetensors, format section of its README):
//   8 bytes  N, the header's size, little-endian
//   N bytes  a JSON object: name -> {"dtype", "shape", "data_offsets": [begin, end)}, and "__metadata__" of
//            strings
//   rest     the elements, little-endian, C order
// Reading is as strict as the README: no holes, no overlaps, no repeated names, no trailing bytes.
//
// The format has no checksums. Files of ours have them as one more text of the metadata, which other readers
// ignore:
//
//   "sieve.checksums": "sieve-xxh3 HHHHHHHHHHHHHHHH TTTTTTTTTTTTTTTT ..."    16 hexadecimal digits each
//
// H is of the first 8 + N bytes with its own digits as zeros; a T for each tensor, in the order of the
// header, of its name, its dtype, its shape as text ("[2,3]") and its elements. Both are XXH3-64 over the
// parts, each after its length as 8 bytes. So every flipped bit and every truncation is found on reading; a
// tensor is named. A file without checksums is read as it is. A program that changes tensors and keeps the
// metadata must drop this text.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/core/named_tensor.h"
#include "framework/io/tensor_bytes.h"

namespace sieve {

struct SafetensorsFile {
    NamedTensors tensors;                         // in the order of their elements in the file
    std::map<std::string, std::string> metadata;  // without the checksums
};

// Tied tensors are written once for each name: the format cannot share. Writes atomically. Adds the
// checksums.
void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

// A tensor whose elements are written as they stand in `bytes`.
struct TensorPayload {
    std::string name, dtype;  // "F32", "BF16", ...: as the format names it
    Shape shape;
    std::string_view bytes;
};
void write_safetensors(const std::string& path, const std::vector<TensorPayload>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

// F32, F64, I32, I64, U8, and with conversion F16, BF16 and F8_E4M3 (to float32) and BOOL (to uint8).
SafetensorsFile read_safetensors(const std::string& path);

// A tensor as a file holds it.
struct StoredTensor {
    std::string name, dtype;
    Shape shape;
    uint64_t begin = 0, end = 0;  // bytes behind the header
    bool operator==(const StoredTensor&) const = default;
};

// A file whose tensors are read one by one, for models that are a good part of the memory: opening it reads the
// header alone, reading a tensor takes a mebibyte beside the elements that are asked for. The file is as
// untrusted as any, and errors are those of read_safetensors.
class SafetensorsReader {
  public:
    explicit SafetensorsReader(const std::string& path);
    ~SafetensorsReader();
    SafetensorsReader(const SafetensorsReader&) = delete;
    SafetensorsReader& operator=(const SafetensorsReader&) = delete;

    const std::string& path() const;
    const std::vector<StoredTensor>& tensors() const;  // in the order of the header
    // The elements from `first` on, in C order: as many as `into` has room for, which the caller has compared
    // with the shape. Of floating dtypes alone (F32, F64, F16, BF16, F8_E4M3), converted to float32; a
    // bad_file error for others. A tensor that is read whole is compared with its checksum, where there is one.
    void read(const StoredTensor& tensor, int64_t first, std::span<float> into) const;

  private:
    struct File;
    std::unique_ptr<const File> file_;
};

}  // namespace sieve
