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

}  // namespace sieve
