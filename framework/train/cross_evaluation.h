// A trained model read otherwise than it was trained: by another selector, with another k, or densely. So
// what is due to the keys that are read is told from what is due to the weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/transformer.h"

namespace sieve {

inline constexpr const char* dense_reading = "dense";  // all earlier keys, where others name a selector

// What a model of this configuration can be read by: dense_reading, and the selectors that have no parameters
// or whose parameters it has.
std::vector<std::string> readings_of(const ModelConfig& config);

// A copy of the model, where it is, that reads by `reading`; top_k 0: the model's own number of keys. The
// settings of selectors are the model's, but that another than its own scores in float32. Throws a usage
// error for another name than those of readings_of.
std::unique_ptr<Transformer> read_by(const Transformer& model, const std::string& reading, int64_t top_k);

}  // namespace sieve
