#include "framework/io/crc32.h"

#include <libdeflate.h>

#include <array>

namespace sieve {
namespace {

constexpr std::array<uint32_t, 256> castagnoli_table() {
    std::array<uint32_t, 256> table{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
        table[byte] = crc;
    }
    return table;
}

}  // namespace

uint32_t crc32_of(std::string_view bytes) {
    return libdeflate_crc32(0, bytes.data(), bytes.size());
}

uint32_t crc32c_of(std::string_view bytes) {
    static constexpr std::array<uint32_t, 256> table = castagnoli_table();
    uint32_t crc = 0xFFFFFFFF;
    for (const char c : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(c)) & 0xFF];
    return ~crc;
}

}  // namespace sieve
