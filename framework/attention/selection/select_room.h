// The memory behind a row's SelectScratch.
#pragma once

#include "framework/attention/selection/select_row.h"
#include "framework/core/tensor.h"

namespace sieve::cpu {

// One thread's, for rows of up to `count` scores.
template <class T>
class SelectRoom {
  public:
    explicit SelectRoom(int64_t count)
        : keys_(Tensor::empty({count}, dtype_of<T>)), marks_(Tensor::empty({count + 8}, DType::uint8)) {}
    SelectScratch<T> scratch() const {
        return {static_cast<OrderKey<T>*>(keys_.raw()), marks_.template data<uint8_t>()};
    }

  private:
    Tensor keys_, marks_;
};

}  // namespace sieve::cpu
