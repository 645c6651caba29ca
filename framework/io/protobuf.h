// Writing protocol buffers by hand: a message is the concatenation of its fields, each a varint key
// (field number * 8 + wire type) and a value. Nested messages are written with bytes_field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "framework/io/little_endian.h"

namespace sieve::protobuf {

enum class Wire { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

// Seven bits a byte, lowest first; the high bit says that more follow.
inline void varint(std::string& message, uint64_t value) {
    for (; value >= 0x80; value >>= 7) message += static_cast<char>(value | 0x80);
    message += static_cast<char>(value);
}

inline void key(std::string& message, uint32_t field, Wire wire) {
    varint(message, static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire));
}

inline void int_field(std::string& message, uint32_t field, int64_t value) {
    key(message, field, Wire::varint);
    varint(message, static_cast<uint64_t>(value));
}

inline void double_field(std::string& message, uint32_t field, double value) {
    key(message, field, Wire::fixed64);
    append_number(message, value);
}

inline void float_field(std::string& message, uint32_t field, float value) {
    key(message, field, Wire::fixed32);
    append_number(message, value);
}

inline void bytes_field(std::string& message, uint32_t field, std::string_view bytes) {
    key(message, field, Wire::bytes);
    varint(message, bytes.size());
    message += bytes;
}

}  // namespace sieve::protobuf
