// The GPT-2 byte alphabet: each byte as one printable character, so that tokens can be written in JSON.
// Printable Latin-1 bytes stand for themselves; the other 68, in order, for U+0100, U+0101, ...
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sieve {

// By byte: the code point of its letter.
const std::array<uint32_t, 256>& byte_alphabet();

std::string to_byte_alphabet(std::string_view bytes);  // UTF-8
// Nothing when `letters` holds a character outside the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view letters);

}  // namespace sieve
