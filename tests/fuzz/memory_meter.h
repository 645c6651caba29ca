// How much memory a piece of work takes: what operator new gives out in this program and in the libraries
// that it links, and what tensors take (core/allocator.h).
#pragma once

#include <cstdint>

namespace sieve::fuzz {

class MemoryMeter {
  public:
    MemoryMeter();
    int64_t peak() const;  // bytes above what was in use when the meter was made

  private:
    int64_t heap_before_, tensors_before_;
};

}  // namespace sieve::fuzz
