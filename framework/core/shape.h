// The dims of a tensor, outermost first. Rank 0 is a scalar of one element; any dim may be 0.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace sieve {

class Shape {
  public:
    static constexpr int max_rank = 6;

    Shape() = default;
    Shape(std::initializer_list<int64_t> dims);

    int rank() const { return rank_; }
    int64_t numel() const;  // throws when int64 cannot hold it
    // Negative i counts from the end: dim(-1) is the innermost. Throws when out of range.
    int64_t dim(int i) const;
    int64_t operator[](int i) const { return dim(i); }
    void append(int64_t dim);
    // This shape without its last `count` dims, and with `dim` in place of the last one.
    Shape drop_last(int count = 1) const;
    Shape with_last(int64_t dim) const;

    bool operator==(const Shape&) const = default;
    const int64_t* begin() const { return dims_.data(); }
    const int64_t* end() const { return dims_.data() + rank_; }

  private:
    std::array<int64_t, max_rank> dims_{};
    int rank_ = 0;
};

std::string to_string(const Shape& shape);  // "[4,8]"

}  // namespace sieve
