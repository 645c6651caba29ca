// JSON files through nlohmann-json, whose silent habits are closed here: it writes NaN and infinities as
// null, it keeps the last of two equal keys, it searches all keys for each new one, and what walks through a
// document (writing, copying, comparing it) calls itself once a level. So all text goes through parse_json,
// which refuses equal keys, more than 64 levels, and what would take far more memory than its size, before
// the library sees them. Only the forward declarations of that large header are included; a caller that
// builds or takes apart a document includes <nlohmann/json.hpp> itself, in one .cpp.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "framework/io/memory_budget.h"

namespace sieve {

// Writes atomically, indented by two spaces, keys in the order in which they were set. A NaN or an infinity
// is refused with its key path: `results/x.json: val_loss[3] is nan, which JSON cannot hold`.
void write_json_atomic(const std::string& path, const nlohmann::ordered_json& document);

// Throws Error(bad_file): `x.json:3:7: ...` (line and column) on a syntax error.
nlohmann::ordered_json read_json(const std::string& path);

// The same for text at hand; `name` takes the place of the path in messages.
nlohmann::ordered_json parse_json(std::string_view text, const std::string& name);
// For text that is a part of a file: what its values take comes out of the file's budget.
nlohmann::ordered_json parse_json(std::string_view text, const std::string& name, MemoryBudget& budget);

// How every file holds a double: as a number when it is finite, else as the text "inf", "-inf" or "nan", so
// that what was saved is what is loaded, bit for bit. null, a key that is left out and an empty cell of a
// table say that something was not measured.
nlohmann::ordered_json json_number(double value);
// What json_number made; null is NaN. Nothing for anything else.
std::optional<double> number_in(const nlohmann::ordered_json& value);
// A whole number that int64 holds, however it is written (3000, 3e3). Nothing for anything else.
std::optional<int64_t> whole_number_in(const nlohmann::ordered_json& value);

// For messages. A value on one short line: a number or a text as JSON writes it, a list of those, or what it
// is.
std::string shown(const nlohmann::ordered_json& value);
// The reason in what one of nlohmann's exceptions says, without its library name, number and position. Other
// texts come back as they are.
std::string json_reason(const std::string& message);

}  // namespace sieve
