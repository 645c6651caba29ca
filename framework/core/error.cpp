#include "framework/core/error.h"

#include <cstdio>

namespace sieve {
namespace {

constexpr size_t longest_message = 2000, longest_value = 80;

// How many of the bytes at `at` make a control character: one of ASCII, or in UTF-8 one of U+0080 to U+009F,
// of which some are commands to a terminal.
size_t control_bytes(std::string_view text, size_t at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 0x20 || byte == 0x7F) return 1;
    if (byte != 0xC2 || at + 1 == text.size()) return 0;
    return static_cast<unsigned char>(text[at + 1]) < 0xA0 ? 2 : 0;
}

}  // namespace

Error::Error(ErrorKind kind, const std::string& message, std::vector<SizeKind> lower)
    : std::runtime_error(one_line(message)), kind_(kind), lower_(std::move(lower)) {}

std::string one_line(std::string_view message) {
    std::string whole;
    if (message.size() > longest_message) {
        const size_t half = longest_message / 2;
        whole.append(message.substr(0, half)).append(" ... ").append(message.substr(message.size() - half));
        message = whole;
    }
    std::string line;
    line.reserve(message.size());
    for (size_t i = 0, escaped = 0; i < message.size(); ++i) {
        if (escaped == 0) escaped = control_bytes(message, i);
        if (escaped == 0) {
            line += message[i];
            continue;
        }
        --escaped;
        char text[8];
        std::snprintf(text, sizeof text, "\\x%02x", static_cast<unsigned char>(message[i]));
        line += text;
    }
    return line;
}

std::string shortened(std::string_view text) {
    if (text.size() <= longest_value) return std::string(text);
    return std::string(text.substr(0, longest_value)) + "... (" + std::to_string(text.size()) + " bytes)";
}

void fail(const std::string& message) {
    throw Error(ErrorKind::failure, message);
}
void fail_usage(const std::string& message) {
    throw Error(ErrorKind::usage, message);
}
void fail_bad_file(const std::string& message) {
    throw Error(ErrorKind::bad_file, message);
}

std::string enumerated(const std::vector<std::string>& names, const char* last) {
    std::string text;
    for (size_t i = 0; i < names.size(); ++i) {
        if (i > 0) text += i + 1 == names.size() ? std::string(" ") + last + " " : ", ";
        text += names[i];
    }
    return text;
}

std::string one_of(const std::vector<std::string>& choices) {
    return enumerated(choices, "or");
}

std::string one_of(const std::vector<SizeKind>& sizes) {
    std::vector<std::string> names;
    names.reserve(sizes.size());
    for (const SizeKind size : sizes) names.emplace_back(name_of(size));
    return one_of(names);
}

}  // namespace sieve
