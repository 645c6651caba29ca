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

}  // namespace sieve
