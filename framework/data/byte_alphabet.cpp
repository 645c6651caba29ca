#include "framework/data/byte_alphabet.h"

#include "framework/data/unicode.h"

namespace sieve {
namespace {

constexpr uint32_t alphabet_end = 256 + 68;

bool is_printable(uint32_t byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

std::array<int, alphabet_end> bytes_by_letter() {
    std::array<int, alphabet_end> bytes;
    bytes.fill(-1);
    for (int b = 0; b < 256; ++b) bytes[byte_alphabet()[static_cast<size_t>(b)]] = b;
    return bytes;
}

}  // namespace

const std::array<uint32_t, 256>& byte_alphabet() {
    static const auto letters = [] {
        std::array<uint32_t, 256> table{};
        uint32_t next = 256;
        for (uint32_t b = 0; b < 256; ++b) table[b] = is_printable(b) ? b : next++;
        return table;
    }();
    return letters;
}

std::string to_byte_alphabet(std::string_view bytes) {
    std::string out;
    for (const char c : bytes) {
        const uint32_t code = byte_alphabet()[static_cast<unsigned char>(c)];
        if (code < 0x80) {
            out += static_cast<char>(code);
        } else {
            out += static_cast<char>(0xC0 | code >> 6);
            out += static_cast<char>(0x80 | (code & 0x3F));
        }
    }
    return out;
}

std::optional<std::string> from_byte_alphabet(std::string_view letters) {
    static const auto bytes = bytes_by_letter();
    std::string out;
    for (size_t at = 0; at < letters.size();) {
        const Utf8Char c = utf8_at(letters, at);
        if (!c.valid || c.code >= alphabet_end || bytes[c.code] < 0) return std::nullopt;
        out += static_cast<char>(bytes[c.code]);
        at += c.length;
    }
    return out;
}

}  // namespace sieve
