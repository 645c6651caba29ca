// Cuts text into the words inside which byte pairs are merged, as the Hugging Face pre-tokenizers do:
//   ByteLevel    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+     (GPT-2)
//   Digits       before it: cuts numbers out, each run of digits or each digit on its own (SmolLM)
// The classes are those of Unicode 16.0, as in `tokenizers` 0.23. The words, joined, are the text again. A
// byte that is not UTF-8 counts as [^\s\p{L}\p{N}]; Hugging Face has no such input, it accepts only valid
// text.
#pragma once

#include <cstddef>
#include <string_view>

#include "framework/data/unicode.h"

namespace sieve {

enum class Digits { with_regex, runs, single };

struct PreTokenizer {
    bool add_prefix_space = false;  // puts a space before each piece that does not start with one
    bool use_regex = true;
    Digits digits = Digits::with_regex;

    bool operator==(const PreTokenizer&) const = default;
};

// End of the word of the ByteLevel expression that starts at `at` < text.size().
size_t word_end(std::string_view text, size_t at);

// End of the piece that starts at `at` under the Digits rule: a digit, a run of digits, or text without
// digits.
size_t digits_piece_end(std::string_view text, size_t at, Digits digits);

}  // namespace sieve
