#include "tests/support/source_dir.h"

namespace sieve::testing {

std::string source_dir() {
    return SIEVE_SOURCE_DIR;
}

}  // namespace sieve::testing
