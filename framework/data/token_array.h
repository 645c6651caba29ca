// Token ids that another program wrote as an array.
#pragma once

#include <cstdint>
#include <string>

#include "framework/core/tensor.h"

namespace sieve {

// An .npy file of whole numbers [B,T], as int32. Throws a bad_file error for another rank or type, and for an
// id outside of 0 .. vocabulary-1, with its position.
Tensor read_token_array(const std::string& path, int64_t vocabulary);

}  // namespace sieve
