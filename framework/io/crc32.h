// Checksums of 32 bits, both reflected and inverted at the beginning and the end.
#pragma once

#include <cstdint>
#include <string_view>

namespace sieve {

// Polynomial 0xEDB88320, as zip files use it; through libdeflate.
uint32_t crc32_of(std::string_view bytes);

// Polynomial 0x82F63B78 (Castagnoli), as TFRecord files use it. A byte at a time: for short records.
uint32_t crc32c_of(std::string_view bytes);

}  // namespace sieve
