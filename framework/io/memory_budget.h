// What reading a file may take in memory: as much as the file has bytes, and 48 MB, beside those bytes
// themselves. So a program that reads it holds no more than twice its size and 64 MB. Formats in which few
// bytes can stand for much (a pickle's values, those of a JSON document, tensors that share elements) count
// what they are about to make, so that no file of kilobytes asks for gigabytes.
#pragma once

#include <cstdint>
#include <string>

namespace sieve {

inline constexpr uint64_t tensor_overhead = 640;  // what a tensor takes beside its elements and its name

class MemoryBudget {
  public:
    // `path` begins the error.
    MemoryBudget(uint64_t file_bytes, std::string path);
    void take(uint64_t bytes);  // throws Error(bad_file) when that is more than there is left
    void give_back(uint64_t bytes) { left_ += bytes; }

  private:
    std::string path_;
    uint64_t left_;
};

}  // namespace sieve
