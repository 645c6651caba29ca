// UTF-8 text as the tokenizer's regular expression sees it: code points and their classes \p{L}, \p{N}, \s.
#pragma once

#include <cstdint>
#include <string_view>

namespace sieve {

enum class CharClass : uint8_t { letter, number, space, other };

struct Utf8Char {
    uint32_t code = 0;
    uint32_t length = 1;  // bytes taken
    bool valid = true;    // false: one byte that starts no well-formed sequence
};

// The character at text[at], at < text.size(). Overlong forms, surrogates and codes past U+10FFFF are
// invalid.
Utf8Char utf8_at(std::string_view text, size_t at);

// The class of a code point: letter = category L, number = category N, space = Unicode White_Space.
CharClass class_of(uint32_t code);

// Number of bytes of `text` that belong to no well-formed UTF-8 sequence.
size_t count_invalid_utf8(std::string_view text);

}  // namespace sieve
