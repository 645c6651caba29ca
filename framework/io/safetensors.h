// safetensors (https://github.com/huggingface/safetensors, format section of its README):
//   8 bytes  N, the header's size, little-endian
//   N bytes  a JSON object: name -> {"dtype", "shape", "data_offsets": [begin, end)}, and "__metadata__" of
//            strings
//   rest     the elements, little-endian, C order
// Reading is as strict as the README: no holes, no overlaps, no repeated names, no trailing bytes.
#pragma once

#include <map>
#include <string>

#include "framework/core/named_tensor.h"

namespace sieve {

struct SafetensorsFile {
    NamedTensors tensors;  // in the order of their elements in the file
    std::map<std::string, std::string> metadata;
};

// Tied tensors are written once for each name: the format cannot share. Writes atomically.
void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

// F32, F64, I32, I64, U8, and with conversion F16 and BF16 (to float32) and BOOL (to uint8).
SafetensorsFile read_safetensors(const std::string& path);

}  // namespace sieve
