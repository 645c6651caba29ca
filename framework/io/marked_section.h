// Text that a program keeps up to date inside a page that people write.
#pragma once

#include <string>

namespace sieve {

// What stands between the lines "<!-- name -->" and "<!-- /name -->" of a file. Throws a bad_file error when
// the file or one of the markers is missing, or they stand in the wrong order.
std::string marked_section(const std::string& path, const std::string& name);

// Replaces what stands there, atomically. Throws as above.
void replace_marked_section(const std::string& path, const std::string& name, const std::string& text);

}  // namespace sieve
