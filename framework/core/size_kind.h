// The sizes of a computation that its user chooses. An error names those that would mend it by being lower;
// what they are called on a command line is a program's to say (program/command_line.h).
#pragma once

#include <cstdint>

namespace sieve {

enum class SizeKind : uint8_t {
    none,
    batch,
    length,
    width,
    layers,
    experts,
    expert_width,
    vocabulary,
    selected_keys,
    text
};

const char* name_of(SizeKind size);  // "the batch", "the length of the sequences"

}  // namespace sieve
