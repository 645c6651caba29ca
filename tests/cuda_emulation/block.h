// Runs the blocks of one launch, and answers the device functions that its threads call.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "cuda_runtime.h"

namespace sieve::cuda_emulation {

struct Launch {
    std::string name;  // "kernel ...", for errors
    dim3 grid, block;
    size_t shared_bytes;
    const std::function<void()>& thread_body;
};

// Throws a std::runtime_error that names kernel, block and threads.
void run_grid(const Launch& launch);

// A generator for orders; it gives zeros when the seed is 0.
class Shuffler {
  public:
    explicit Shuffler(uint64_t seed) : state_(seed) {}
    explicit operator bool() const { return state_ != 0; }
    uint32_t below(uint32_t bound);

    template <class T>
    void shuffle(T* items, int count) {
        if (state_ == 0) return;
        for (int i = count - 1; i > 0; --i) std::swap(items[i], items[below(i + 1)]);
    }

  private:
    uint64_t state_;
};

// One generator per launch: the seed and a count of launches.
Shuffler next_shuffler();

}  // namespace sieve::cuda_emulation
