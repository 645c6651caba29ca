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

#include <map>
#include <string>

#include "framework/core/named_tensor.h"

namespace sieve {

struct SafetensorsFile {
    NamedTensors tensors;                         // in the order of their elements in the file
    std::map<std::string, std::string> metadata;  // without the checksums
};

// Tied tensors are written once for each name: the format cannot share. Writes atomically. Adds the
// checksums.
void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

// F32, F64, I32, I64, U8, and with conversion F16 and BF16 (to float32) and BOOL (to uint8).
SafetensorsFile read_safetensors(const std::string& path);

}  // namespace sieve
