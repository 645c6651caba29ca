#include "framework/core/shape.h"

#include "framework/core/error.h"

namespace sieve {

Shape::Shape(std::initializer_list<int64_t> dims) {
    for (int64_t d : dims) append(d);
}

void Shape::append(int64_t dim) {
    if (rank_ == max_rank) fail("shape: more than " + std::to_string(max_rank) + " dims");
    if (dim < 0) fail("shape: negative dim " + std::to_string(dim) + " after " + to_string(*this));
    dims_[rank_++] = dim;
}

int64_t Shape::numel() const {
    int64_t n = 1;
    bool overflow = false, empty = false;
    for (const int64_t d : *this) {
        overflow |= __builtin_mul_overflow(n, d, &n);
        empty |= d == 0;
    }
    if (empty) return 0;
    if (overflow) fail("shape: " + to_string(*this) + " has 2^63 elements or more");
    return n;
}

int64_t Shape::dim(int i) const {
    const int at = i < 0 ? i + rank_ : i;
    if (at < 0 || at >= rank_) fail("shape: dim " + std::to_string(i) + " of " + to_string(*this));
    return dims_[at];
}

Shape Shape::drop_last(int count) const {
    if (count > rank_) fail("shape: cannot drop " + std::to_string(count) + " dims of " + to_string(*this));
    Shape result = *this;
    for (int i = rank_ - count; i < rank_; ++i) result.dims_[i] = 0;  // keep == well defined
    result.rank_ -= count;
    return result;
}

Shape Shape::with_last(int64_t dim) const {
    Shape result = drop_last();
    result.append(dim);
    return result;
}

std::string to_string(const Shape& shape) {
    std::string text = "[";
    for (int i = 0; i < shape.rank(); ++i) {
        if (i > 0) text += ',';
        text += std::to_string(shape.dim(i));
    }
    text += ']';
    return text;
}

}  // namespace sieve
