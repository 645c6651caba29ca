// NumPy's .npy (format versions 1 to 3) and .npz (a stored zip of .npy members). Elements: float32, float64,
// int32, int64, uint8 and bool, little-endian, C order; read are also the other whole numbers of 8 to 64
// bits, as int32 or int64, whichever holds them. Anything else is refused by name. A bool array is read as
// uint8 of 0 and 1.
#pragma once

#include <string>

#include "framework/core/named_tensor.h"

namespace sieve {

enum class NpyBool { no, yes };  // yes: a uint8 tensor is written as booleans (|b1), not as numbers (|u1)

void write_npy(const std::string& path, const Tensor& tensor, NpyBool as_bool = NpyBool::no);
Tensor read_npy(const std::string& path);
// An array of whole numbers, whatever its integer type, as int64. Floats and booleans are refused by name.
Tensor read_npy_integers(const std::string& path);

void write_npz(const std::string& path, const NamedTensors& tensors, NpyBool as_bool = NpyBool::no);
NamedTensors read_npz(const std::string& path);  // names without their ".npy"

}  // namespace sieve
