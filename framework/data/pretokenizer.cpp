#include "framework/data/pretokenizer.h"

#include <array>

namespace sieve {
namespace {

struct ClassAt {
    CharClass klass;
    uint32_t length;
};

inline ClassAt class_at(std::string_view text, size_t at) {
    const auto lead = static_cast<unsigned char>(text[at]);
    if (lead < 0x80) return {class_of(lead), 1};
    const Utf8Char c = utf8_at(text, at);
    return {c.valid ? class_of(c.code) : CharClass::other, c.length};
}

size_t end_of_run(std::string_view text, size_t at, CharClass klass) {
    while (at < text.size()) {
        const ClassAt c = class_at(text, at);
        if (c.klass != klass) break;
        at += c.length;
    }
    return at;
}

size_t contraction_length(std::string_view rest) {
    if (rest.empty() || rest[0] != '\'') return 0;
    for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
        if (rest.starts_with(ending)) return ending.size();
    }
    return 0;
}

// \s+(?!\S)|\s+ : the run of white space, without its last character when a word follows and it has more than
// one.
size_t space_end(std::string_view text, size_t at) {
    size_t last = at, end = at;
    while (end < text.size()) {
        const ClassAt c = class_at(text, end);
        if (c.klass != CharClass::space) break;
        last = end;
        end += c.length;
    }
    return end == text.size() || last == at ? end : last;
}

}  // namespace

size_t word_end(std::string_view text, size_t at) {
    if (const size_t length = contraction_length(text.substr(at))) return at + length;
    const size_t start = at + (text[at] == ' ');
    if (start == text.size()) return start;
    const CharClass klass = class_at(text, start).klass;
    return klass == CharClass::space ? space_end(text, at) : end_of_run(text, start, klass);
}

size_t digits_piece_end(std::string_view text, size_t at, Digits digits) {
    const ClassAt first = class_at(text, at);
    if (digits == Digits::with_regex) return text.size();
    if (first.klass == CharClass::number) {
        return digits == Digits::single ? at + first.length : end_of_run(text, at, CharClass::number);
    }
    while (at < text.size()) {
        const ClassAt c = class_at(text, at);
        if (c.klass == CharClass::number) break;
        at += c.length;
    }
    return at;
}

}  // namespace sieve
