#include "framework/core/version.h"

#include <dlfcn.h>
#include <sieve_commit.h>  // made by tools/write_commit.cmake at every build

#include <fstream>
#include <iterator>

#include "framework/core/hash.h"

namespace sieve {

Version version() {
    return {.number = SIEVE_VERSION, .commit = SIEVE_COMMIT};
}

std::string build_hash() {
    static const char here = 0;
    Dl_info holder{};
    if (dladdr(&here, &holder) == 0) return "";
    std::ifstream file(holder.dli_fname, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    return bytes.empty() ? "" : to_hex(ContentHash().add(bytes).value());
}

}  // namespace sieve
