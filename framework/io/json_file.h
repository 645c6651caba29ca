// JSON files through nlohmann-json, whose two silent habits are closed here: it writes NaN and infinities as
// null, and it keeps the last of two equal keys. Both are errors. Only the forward declarations of that large
// header are included; a caller that builds or takes apart a document includes <nlohmann/json.hpp> itself, in
// one .cpp.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace sieve {

// Writes atomically, indented by two spaces, keys in the order in which they were set. A NaN or an infinity
// is refused with its key path: `results/x.json: val_loss[3] is nan, which JSON cannot hold`.
void write_json_atomic(const std::string& path, const nlohmann::ordered_json& document);

// Throws Error(bad_file): `x.json:3:7: ...` (line and column) on a syntax error or an equal key.
nlohmann::ordered_json read_json(const std::string& path);

// The same for text at hand; `name` takes the place of the path in messages.
nlohmann::ordered_json parse_json(std::string_view text, const std::string& name);

}  // namespace sieve
