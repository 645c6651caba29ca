// The two encodings that a self-contained page needs.
#pragma once

#include <string>
#include <string_view>

namespace sieve {

// Text as it may stand in an element or in a quoted attribute: & < > " ' become entities; control characters
// other than tab and newline, which HTML does not allow, become U+FFFD.
std::string escape_html(std::string_view text);

// RFC 4648, with padding.
std::string base64(std::string_view bytes);

}  // namespace sieve
