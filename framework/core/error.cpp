#include "framework/core/error.h"

namespace sieve {

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
