// Bytes that arrive in pieces, as text that may be shown at once: a token of byte-level BPE may end inside a
// character, and then the character waits for the rest of its bytes.
#pragma once

#include <string>
#include <string_view>

namespace sieve {

class Utf8Stream {
  public:
    // Takes more bytes; returns the text that is complete, always well-formed UTF-8: a byte that belongs to
    // no character is U+FFFD. What may still become a character is held back.
    std::string push(std::string_view bytes);
    // The end: what was held back can become nothing any more.
    std::string finish();

  private:
    std::string held_;
};

}  // namespace sieve
