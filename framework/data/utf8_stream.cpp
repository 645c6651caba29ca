#include "framework/data/utf8_stream.h"

#include "framework/data/unicode.h"

namespace sieve {
namespace {

constexpr std::string_view replacement = "\uFFFD";

bool is_continuation(char byte) {
    return (byte & 0xC0) == 0x80;
}

// Whether `tail` is the beginning of a character whose other bytes are missing.
bool may_continue(std::string_view tail) {
    const auto lead = static_cast<unsigned char>(tail[0]);
    if (lead < 0xC2 || lead > 0xF4) return false;
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (tail.size() >= length) return false;
    for (const char byte : tail.substr(1))
        if (!is_continuation(byte)) return false;
    return true;
}

}  // namespace

std::string Utf8Stream::push(std::string_view bytes) {
    held_ += bytes;
    std::string text;
    size_t at = 0;
    while (at < held_.size()) {
        const Utf8Char c = utf8_at(held_, at);
        const std::string_view tail = std::string_view(held_).substr(at);
        if (!c.valid && may_continue(tail)) break;
        text += c.valid ? tail.substr(0, c.length) : replacement;
        at += c.length;
    }
    held_.erase(0, at);
    return text;
}

std::string Utf8Stream::finish() {
    std::string text;
    for (size_t i = 0; i < held_.size(); ++i) text += replacement;
    held_.clear();
    return text;
}

}  // namespace sieve
