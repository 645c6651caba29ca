#include "framework/nn/growing_rows.h"

#include <algorithm>
#include <cstring>

#include "framework/core/error.h"

namespace sieve {
namespace {

// `from` [outer,n,inner] becomes the rows first..first+n-1 of `to` [outer,C,inner].
void copy_rows(const Tensor& from, const Tensor& to, int64_t first) {
    const size_t row = static_cast<size_t>(from.dim(2)) * size_of(from.dtype());
    const size_t bytes = static_cast<size_t>(from.dim(1)) * row,
                 stride = static_cast<size_t>(to.dim(1)) * row;
    if (bytes == 0) return;
    const char* source = static_cast<const char*>(from.raw());
    char* target = static_cast<char*>(to.raw()) + static_cast<size_t>(first) * row;
    for (int64_t i = 0; i < from.dim(0); ++i, source += bytes, target += stride)
        std::memcpy(target, source, bytes);
}

}  // namespace

Tensor with_room(const Tensor& rows, int64_t needed) {
    if (rows.dim(1) >= needed) return rows;
    const Tensor larger = Tensor::zeros({rows.dim(0), std::max(needed, 2 * rows.dim(1)), rows.dim(2)},
                                        rows.dtype(), rows.device());
    copy_rows(rows, larger, 0);
    return larger;
}

void append_rows(const char* what, Tensor& held, int64_t length, const Tensor& x) {
    if (x.rank() != 4 || !x.device().is_cpu())
        fail(std::string("attention cache: ") + what + " is " + to_string(x.shape()) + " on " +
             to_string(x.device()) + ", want 4 dims on the cpu");
    const int64_t outer = x.dim(0) * x.dim(1), width = x.dim(3);
    if (!held.defined()) held = Tensor::empty({x.dim(0), x.dim(1), 0, width}, x.dtype());
    if (held.dtype() != x.dtype() || held.shape() != Shape{x.dim(0), x.dim(1), held.dim(2), width})
        fail(std::string("attention cache: ") + what + " is " + to_string(x.shape()) +
             ", which does not continue " + to_string(held.shape()));
    const Tensor rows = with_room(held.alias({outer, held.dim(2), width}), length + x.dim(2));
    copy_rows(x.alias({outer, x.dim(2), width}), rows, length);
    held = rows.alias({x.dim(0), x.dim(1), rows.dim(1), width});
}

}  // namespace sieve
