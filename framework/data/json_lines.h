// Private to this room. One line of a file of JSON lines.
#pragma once

#include <string>
#include <string_view>

namespace sieve {

// The text under `key` of the object that `line` is. `place` ("x.jsonl:12") begins the errors.
std::string text_of_json_line(std::string_view line, const std::string& key, const std::string& place);

}  // namespace sieve
