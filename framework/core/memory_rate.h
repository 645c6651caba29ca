// How fast this machine reads memory: the floor under everything that reads each number once.
#pragma once

#include <cstdint>

namespace sieve {

// Bytes a second at which the threads that are set read `bytes` of memory again and again, each its own part; the
// fastest of a few passes. What fits into a cache is read from there.
double measured_read_rate(int64_t bytes);

}  // namespace sieve
