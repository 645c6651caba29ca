// Where the repository lies. In one object of its own, so that the others do not depend on the path.
#pragma once

#include <string>

namespace sieve::testing {

std::string source_dir();

}  // namespace sieve::testing
