#include "framework/data/unicode.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <span>

#include "framework/data/unicode_tables.h"

namespace sieve {
namespace {

bool contains(std::span<const CodeRange> ranges, uint32_t code) {
    const auto after = std::upper_bound(ranges.begin(), ranges.end(), code,
                                        [](uint32_t c, const CodeRange& r) { return c < r.first; });
    return after != ranges.begin() && code <= std::prev(after)->last;
}

void append(std::vector<CodeRange>& ranges, uint32_t first, uint32_t last) {
    if (!ranges.empty() && ranges.back().last + 1 == first)
        ranges.back().last = last;
    else
        ranges.push_back({first, last});
}

bool is_space(uint32_t code) {
    return (code >= 9 && code <= 13) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
           code == 0x205F || code == 0x3000;
}

CharClass look_up(uint32_t code) {
    static const std::vector<CodeRange> letters = code_points_of_category("L");
    static const std::vector<CodeRange> numbers = code_points_of_category("N");
    if (contains(letters, code)) return CharClass::letter;
    if (contains(numbers, code)) return CharClass::number;
    return is_space(code) ? CharClass::space : CharClass::other;
}

}  // namespace

size_t end_of_ascii(std::string_view text, size_t at) {
    constexpr uint64_t high_bits = 0x8080808080808080;
    for (uint64_t eight = 0; at + sizeof eight <= text.size(); at += sizeof eight) {
        std::memcpy(&eight, text.data() + at, sizeof eight);
        if (eight & high_bits) break;
    }
    while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
    return at;
}

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

size_t previous_utf8(std::string_view text, size_t end) {
    for (size_t length = 1; length <= std::min<size_t>(4, end); ++length) {
        const Utf8Char c = utf8_at(text.substr(0, end), end - length);
        if (c.valid && c.length == length) return end - length;
    }
    return end - 1;
}

bool is_numeric(uint32_t code) {
    constexpr CodeRange of_unicode_17[] = {{0x11DE0, 0x11DE9}, {0x16FF4, 0x16FF6}};
    return class_of(code) == CharClass::number || contains(of_unicode_17, code);
}

bool is_word(uint32_t code) {
    constexpr CodeRange others[] = {{0x200C, 0x200D},  // joiners; the rest are circled and squared letters
                                    {0x24B6, 0x24E9},
                                    {0x1F130, 0x1F149},
                                    {0x1F150, 0x1F169},
                                    {0x1F170, 0x1F189}};
    if (class_of(code) == CharClass::letter || contains(others, code)) return true;
    static const std::vector<CodeRange> more[] = {code_points_of_category("M"), code_points_of_category("Nd"),
                                                  code_points_of_category("Nl"),
                                                  code_points_of_category("Pc")};
    return std::any_of(std::begin(more), std::end(more),
                       [&](const auto& ranges) { return contains(ranges, code); });
}

std::vector<CodeRange> code_points_of_category(std::string_view prefix) {
    std::vector<CodeRange> found;
    uint32_t next = 0;  // the lowest code point behind the ranges so far
    const auto add = [&](std::string_view category, uint32_t first, uint32_t last) {
        if (first <= last && category.starts_with(prefix)) append(found, first, last);
    };
    for (const CategoryRange& range : categories::ranges) {
        if (range.first > next) add("Cn", next, range.first - 1);
        add(category_names[static_cast<size_t>(range.category)], range.first, range.last);
        next = range.last + 1;
    }
    if (next <= 0x10FFFF) add("Cn", next, 0x10FFFF);
    return found;
}

std::vector<CodeRange> code_points_of_han() {
    return {std::begin(han_ranges), std::end(han_ranges)};
}

bool is_newer_than_normalizer(uint32_t code) {
    return code >= newer_than_normalizer[0].first && contains(newer_than_normalizer, code);
}

size_t end_of_valid_utf8(std::string_view text, size_t at) {
    while (at < text.size()) {
        at = end_of_ascii(text, at);
        if (at == text.size()) break;
        const Utf8Char c = utf8_at(text, at);
        if (!c.valid) break;
        at += c.length;
    }
    return at;
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
