// Unicode normalization forms (UAX #15), as the `tokenizers` package computes them: by Unicode 9.0. Characters
// that got a decomposition, a combining class or a composition later stay as they are.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sieve {

enum class NormalizationForm { nfc, nfkc };

// The text in the form; nothing when it is in that form already. Bytes that are not UTF-8 stay as they are,
// and characters on their two sides are not composed.
std::optional<std::string> normalized(std::string_view text, NormalizationForm form);

}  // namespace sieve
