// Writing a text token by token, timed: what a token costs, and what memory alone would allow.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/measure/step_timing.h"
#include "models/config.h"

namespace sieve {

struct DecodeTiming {
    AttentionKind attention;
    TimeSpread seconds;  // of a token
    // What one token reads: the weights that it uses, as they are kept (bfloat16 at bf16), and, at the middle of what
    // was timed, the keys, values and indexer keys of the tokens before it.
    double weight_bytes = 0, cache_bytes = 0;
    // Bytes a second at which all threads read memory of that size, again and again.
    double read_rate = 0;
    double floor_seconds() const { return (weight_bytes + cache_bytes) / read_rate; }
};

// Models of this configuration with fresh weights, one for each of `kinds`, read `context` random tokens together and
// then `tokens` more one by one, by turns. On the CPU, at precision(), with the threads that are set.
std::vector<DecodeTiming> time_decoding(const ModelConfig& config, const std::vector<AttentionKind>& kinds,
                                        int64_t context, int64_t tokens);

}  // namespace sieve
