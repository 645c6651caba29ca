#include "framework/core/version.h"

#include <sieve_commit.h>  // made by tools/write_commit.cmake at every build

namespace sieve {

Version version() {
    return {.number = SIEVE_VERSION, .commit = SIEVE_COMMIT};
}

}  // namespace sieve
