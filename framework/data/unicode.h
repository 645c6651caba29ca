// UTF-8 text as tokenizers see it: code points and their classes. Unicode 16.0 where nothing else is said.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace sieve {

struct CodeRange {
    uint32_t first, last;  // both included
};

enum class CharClass : uint8_t { letter, number, space, other };

struct Utf8Char {
    uint32_t code = 0;
    uint32_t length = 1;  // bytes taken
    bool valid = true;    // false: one byte that starts no well-formed sequence
};

// The character at text[at], at < text.size(). Overlong forms, surrogates and codes past U+10FFFF are
// invalid.
Utf8Char utf8_at(std::string_view text, size_t at);

// Where the character before text[end] begins, 0 < end <= text.size(); end - 1 when it is not well-formed.
size_t previous_utf8(std::string_view text, size_t end);

// The class of a code point: letter = category L, number = category N, space = Unicode White_Space.
CharClass class_of(uint32_t code);
// A number for the pre-tokenizer Digits: category N of Unicode 17.0, as in Rust's standard library.
bool is_numeric(uint32_t code);
// A character of a word, \w of Rust's regular expressions: letters, marks, decimal and letter numbers,
// connecting punctuation, circled letters, joiners.
bool is_word(uint32_t code);
// The code points whose general category begins with `prefix`: "L", "Lu", "Cn" (no character); ascending.
std::vector<CodeRange> code_points_of_category(std::string_view prefix);
std::vector<CodeRange> code_points_of_han();
// Whether the normalizers of the `tokenizers` package leave the code point as it is because they do not know
// it: they know Unicode 9.0.
bool is_newer_than_normalizer(uint32_t code);

// End of the run of ASCII characters, or of well-formed UTF-8, that begins at text[at]: `at` itself when the first byte is not.
size_t end_of_ascii(std::string_view text, size_t at);
size_t end_of_valid_utf8(std::string_view text, size_t at);

// Number of bytes of `text` that belong to no well-formed UTF-8 sequence.
size_t count_invalid_utf8(std::string_view text);

}  // namespace sieve
