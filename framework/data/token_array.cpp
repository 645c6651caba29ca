#include "framework/data/token_array.h"

#include <fmt/format.h>

#include "framework/core/error.h"
#include "framework/io/npy.h"

namespace sieve {

Tensor read_token_array(const std::string& path, int64_t vocabulary) {
    const Tensor ids = read_npy_integers(path);
    if (ids.rank() != 2) fail_bad_file(fmt::format("{}: shape {}, want [B,T]", path, to_string(ids.shape())));
    const auto* values = ids.data<int64_t>();
    for (int64_t i = 0; i < ids.numel(); ++i)
        if (values[i] < 0 || values[i] >= vocabulary)
            fail_bad_file(fmt::format("{}: token [{},{}] is {}, want 0 to {}: the vocabulary has {}", path,
                                      i / ids.dim(1), i % ids.dim(1), values[i], vocabulary - 1, vocabulary));
    return ids.to(DType::int32);
}

}  // namespace sieve
