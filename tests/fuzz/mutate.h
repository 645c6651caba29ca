// Mutations of files: what damage and malice do to them, by chance but the same for the same seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sieve::fuzz {

// One to four changes of one of the samples: bits flipped, bytes set, inserted, removed or repeated, the end
// cut off, numbers replaced by extreme ones (binary, and in text), parts of two samples joined.
std::string mutated(const std::vector<std::string>& samples, uint64_t seed);

}  // namespace sieve::fuzz
