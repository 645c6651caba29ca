// The bytes of TensorBoard event files: a TFRecord file whose records are Event messages.
//
//   record   length (8 bytes), masked CRC-32C of the length (4), payload, masked CRC-32C of the payload (4)
//   Event    1: wall_time (double)   2: step (int64)   3: file_version (string) or 5: Summary
//   Summary  1: Value, repeated      Value   1: tag (string)   2: simple_value (float)
//
// A file is event_file_header() followed by any number of scalar_event()s. TensorBoard shows every file whose
// name holds "tfevents".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace sieve {

std::string tf_record(std::string_view payload);

// wall_time: seconds since 1970.
std::string event_file_header(double wall_time);

struct Scalar {
    std::string tag;
    double value;
};
std::string scalar_event(double wall_time, int64_t step, std::span<const Scalar> scalars);

}  // namespace sieve
