// A 64-bit content hash (XXH3) of bytes fed in pieces: cache keys and checksums, no cryptography.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace sieve {

class ContentHash {
  public:
    ContentHash();
    ~ContentHash();
    ContentHash(const ContentHash&) = delete;
    ContentHash& operator=(const ContentHash&) = delete;

    // The length goes in as well, so that ("ab", "c") and ("a", "bc") differ.
    ContentHash& add(std::string_view bytes);
    ContentHash& add(int64_t number);
    // More bytes without a length: add(text) is add(length of the text) and extend() with all of its parts.
    ContentHash& extend(std::string_view bytes);
    uint64_t value() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

std::string to_hex(uint64_t value);  // 16 digits

}  // namespace sieve
