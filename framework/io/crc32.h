// CRC-32 as zip files use it (polynomial 0xEDB88320), through libdeflate.
#pragma once

#include <cstdint>
#include <string_view>

namespace sieve {

uint32_t crc32_of(std::string_view bytes);

}  // namespace sieve
