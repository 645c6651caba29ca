// Host memory that the device reads and writes while the host goes on: what travels to a recorded step and
// back.
#pragma once

#include <cstdint>

#include "framework/core/cuda/runtime.h"

namespace sieve::cuda {

template <class T>
class Pinned {
  public:
    explicit Pinned(int64_t count)
        : count_(count), data_(static_cast<T*>(pinned_malloc(count * static_cast<int64_t>(sizeof(T))))) {}
    ~Pinned() { pinned_free(data_); }
    Pinned(const Pinned&) = delete;
    Pinned& operator=(const Pinned&) = delete;

    T* data() { return data_; }
    T& operator[](int64_t i) { return data_[i]; }
    int64_t count() const { return count_; }
    int64_t bytes() const { return count_ * static_cast<int64_t>(sizeof(T)); }

  private:
    int64_t count_;
    T* data_;
};

}  // namespace sieve::cuda
