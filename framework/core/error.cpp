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

std::string one_of(const std::vector<std::string>& choices) {
    std::string list;
    for (size_t i = 0; i < choices.size(); ++i)
        list += (i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ") + choices[i];
    return list;
}

std::string one_of(const std::vector<SizeKind>& sizes) {
    std::vector<std::string> names;
    names.reserve(sizes.size());
    for (const SizeKind size : sizes) names.emplace_back(name_of(size));
    return one_of(names);
}

}  // namespace sieve
