// Cuts text into the words inside which byte pairs are merged, as the pre-tokenizers of the `tokenizers`
// package do. Each step cuts every piece that the step before it made, and sees nothing beside that piece:
//   Split        at the matches of a regular expression (regex.h) or of a text
//   Digits       cuts numbers out, each run of digits or each digit on its own (SmolLM)
//   ByteLevel    the last one: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//                (GPT-2), or nothing with use_regex = false
// A byte that is not UTF-8, of which Hugging Face has none as it accepts only valid text, counts as
// [^\s\p{L}\p{N}] in ByteLevel and Digits. A Split sees the valid text on both sides as two texts; the bytes
// between them are a piece on their own.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "framework/data/regex.h"
#include "framework/data/unicode.h"

namespace sieve {

// What becomes of a match: nothing; a piece; a part of the piece before it, or behind it; neighbouring matches
// one piece.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

struct SplitStep {
    SplitStep(std::string pattern_text, bool regular_expression, SplitBehavior what_becomes, bool inverted);

    std::string pattern;
    bool is_regex;  // or a text to be found as it is
    SplitBehavior behavior;
    bool invert;  // matches and what lies between them change places
    Regex regex;
};

struct DigitsStep {
    bool individual;
};

struct PreTokenizer {
    std::vector<std::variant<SplitStep, DigitsStep>> steps;  // before ByteLevel
    bool add_prefix_space = false;  // puts a space before each piece that does not start with one
    bool use_regex = true;
};

// Calls `visit` with the pieces that the steps make of the text, none of them empty, until it returns false;
// returns whether it never did.
bool for_each_piece(const PreTokenizer& pre_tokenizer, std::string_view text,
                    const std::function<bool(std::string_view piece)>& visit);

// End of the word of the ByteLevel expression that starts at `at` < text.size().
size_t word_end(std::string_view text, size_t at);
// The first place from `at` on at which a word of that expression ends wherever the words before it begin, so that both
// sides of it can be cut into words by themselves: white space behind a character that is none. The text's end when there is
// no such place.
size_t word_border(std::string_view text, size_t at);

}  // namespace sieve
