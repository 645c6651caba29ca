#include "framework/data/normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "framework/core/error.h"
#include "framework/data/unicode.h"

namespace sieve {
namespace {

// The end of what must be normalized together: no ASCII character joins one before it, and the two sides of a
// character that the normalizer does not know do not meet.
size_t end_of_stretch(std::string_view text, size_t at) {
    while (at < text.size() && static_cast<unsigned char>(text[at]) >= 0x80) {
        const Utf8Char c = utf8_at(text, at);
        if (!c.valid || is_newer_than_normalizer(c.code)) break;
        at += c.length;
    }
    return at;
}

void append_normalized(std::string& out, std::string_view stretch, NormalizationForm form) {
    const auto options = static_cast<utf8proc_option_t>(
        UTF8PROC_STABLE | UTF8PROC_COMPOSE | (form == NormalizationForm::nfkc ? UTF8PROC_COMPAT : 0));
    utf8proc_uint8_t* result = nullptr;
    const utf8proc_ssize_t length =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(stretch.data()),
                     static_cast<utf8proc_ssize_t>(stretch.size()), &result, options);
    if (length < 0) fail(fmt::format("utf8proc: {}, on {} bytes", utf8proc_errmsg(length), stretch.size()));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, std::free);
    out.append(reinterpret_cast<const char*>(result), static_cast<size_t>(length));
}

}  // namespace

std::optional<std::string> normalized(std::string_view text, NormalizationForm form) {
    std::string out;
    size_t done = 0;  // bytes of the text that are in `out`
    for (size_t at = end_of_ascii(text, 0); at < text.size(); at = end_of_ascii(text, at)) {
        const size_t begin = at > done && static_cast<unsigned char>(text[at - 1]) < 0x80 ? at - 1 : at;
        const size_t end = end_of_stretch(text, at);
        out += text.substr(done, begin - done);
        if (end > at) append_normalized(out, text.substr(begin, end - begin), form);
        done = end > at ? end : begin;
        at = end > at ? end : at + utf8_at(text, at).length;  // what is left as it is
    }
    if (out == text.substr(0, done)) return std::nullopt;
    return out += text.substr(done);
}

}  // namespace sieve
