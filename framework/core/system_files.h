// What Linux says in files of /proc and /sys.
#pragma once

#include <cstdint>
#include <string>

namespace sieve {

// All of the file; empty where there is none.
std::string system_text(const std::string& path);

// The whole number behind `key` where a line begins with it; -1 without one.
int64_t number_after(const std::string& key, const std::string& text);

}  // namespace sieve
