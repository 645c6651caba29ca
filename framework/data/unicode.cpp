#include "framework/data/unicode.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "framework/data/unicode_tables.h"

namespace sieve {
namespace {

template <size_t N>
bool contains(const CodeRange (&ranges)[N], uint32_t code) {
    const CodeRange* after = std::upper_bound(std::begin(ranges), std::end(ranges), code,
                                              [](uint32_t c, const CodeRange& r) { return c < r.first; });
    return after != std::begin(ranges) && code <= std::prev(after)->last;
}

bool is_space(uint32_t code) {
    return (code >= 9 && code <= 13) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
           code == 0x205F || code == 0x3000;
}

CharClass look_up(uint32_t code) {
    if (contains(letter_ranges, code)) return CharClass::letter;
    if (contains(number_ranges, code)) return CharClass::number;
    return is_space(code) ? CharClass::space : CharClass::other;
}

}  // namespace

Utf8Char utf8_at(std::string_view text, size_t at) {
    const auto byte = [&](size_t i) {
        return static_cast<uint32_t>(static_cast<unsigned char>(text[at + i]));
    };
    const uint32_t lead = byte(0);
    if (lead < 0x80) return {lead, 1, true};
    const Utf8Char invalid{lead, 1, false};
    const uint32_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || text.size() - at < length) return invalid;
    uint32_t code = lead & (0xFFu >> (length + 1));
    for (uint32_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0) != 0x80) return invalid;
        code = code << 6 | (byte(i) & 0x3F);
    }
    constexpr uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    if (code < smallest[length] || code > 0x10FFFF || surrogate) return invalid;
    return {code, length, true};
}

CharClass class_of(uint32_t code) {
    static const auto latin = [] {  // most text is Latin: one table look-up
        std::array<CharClass, 0x250> table{};
        for (uint32_t c = 0; c < table.size(); ++c) table[c] = look_up(c);
        return table;
    }();
    return code < latin.size() ? latin[code] : look_up(code);
}

size_t count_invalid_utf8(std::string_view text) {
    size_t invalid = 0;
    for (size_t at = 0; at < text.size();) {
        const Utf8Char c = utf8_at(text, at);
        invalid += !c.valid;
        at += c.length;
    }
    return invalid;
}

}  // namespace sieve
