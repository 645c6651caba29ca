// Text that a program keeps up to date inside a page that people write.
#pragma once

#include <string>

namespace sieve {

// Replaces what stands between the lines "<!-- name -->" and "<!-- /name -->" of a file, atomically. Throws a
// bad_file error when the file or one of the markers is missing, or they stand in the wrong order.
void replace_marked_section(const std::string& path, const std::string& name, const std::string& text);

}  // namespace sieve
