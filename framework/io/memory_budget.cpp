#include "framework/io/memory_budget.h"

#include <utility>

#include "framework/core/error.h"

namespace sieve {

constexpr uint64_t allowance = 48'000'000;

MemoryBudget::MemoryBudget(uint64_t file_bytes, std::string path)
    : path_(std::move(path)), left_(file_bytes + allowance) {}

void MemoryBudget::take(uint64_t bytes) {
    if (bytes > left_)
        fail_bad_file(path_ +
                      ": refused, as reading it would take far more memory than a file of its size needs");
    left_ -= bytes;
}

}  // namespace sieve
