// Which build this is.
#pragma once

#include <string>

namespace sieve {

struct Version {
    std::string number;  // "0.2.0"
    std::string
        commit;  // git's name of it, "-dirty" behind it when files had been changed; "unknown" without git
};
Version version();

// XXH3, in hex, of the file that holds this code, the library or the program: another build, another hash. Empty
// when the file cannot be read.
std::string build_hash();

}  // namespace sieve
