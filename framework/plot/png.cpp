#include "framework/plot/png.h"

#include <libdeflate.h>

#include <cstdlib>

#include "framework/core/error.h"

namespace {

// stb's own zlib packs worse and several times slower. stb frees the result with std::free.
unsigned char* zlib_compress(unsigned char* data, int size, int* packed_size, int level) {
    libdeflate_compressor* compressor = libdeflate_alloc_compressor(level);
    if (compressor == nullptr) return nullptr;
    const size_t bound = libdeflate_zlib_compress_bound(compressor, static_cast<size_t>(size));
    auto* packed = static_cast<unsigned char*>(std::malloc(bound));
    if (packed != nullptr)
        *packed_size = static_cast<int>(
            libdeflate_zlib_compress(compressor, data, static_cast<size_t>(size), packed, bound));
    libdeflate_free_compressor(compressor);
    return packed;
}

}  // namespace

#define STBIW_ZLIB_COMPRESS zlib_compress
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

namespace sieve::plot {

std::string encode_png(const uint8_t* rgb, int width, int height) {
    std::string bytes;
    const auto append = [](void* context, void* data, int size) {
        static_cast<std::string*>(context)->append(static_cast<const char*>(data), static_cast<size_t>(size));
    };
    if (stbi_write_png_to_func(append, &bytes, width, height, 3, rgb, 3 * width) == 0)
        fail("png: cannot encode a picture of " + std::to_string(width) + " x " + std::to_string(height) +
             " pixels");
    return bytes;
}

std::optional<PngSize> png_size(std::string_view bytes) {
    constexpr std::string_view signature = "\x89PNG\r\n\x1a\n";
    if (!bytes.starts_with(signature)) return std::nullopt;
    const auto big_endian = [&](size_t at) {
        int64_t value = 0;
        for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
        return value;
    };
    // A chunk: length, type, data, CRC.
    size_t at = signature.size();
    std::string_view type;
    while (type != "IEND") {
        if (bytes.size() - at < 12) return std::nullopt;
        const auto length = static_cast<size_t>(big_endian(at));
        if (length > bytes.size() - at - 12) return std::nullopt;
        type = bytes.substr(at + 4, 4);
        if (at == signature.size() && (type != "IHDR" || length != 13)) return std::nullopt;
        at += 12 + length;
    }
    if (at != bytes.size()) return std::nullopt;
    return PngSize{big_endian(signature.size() + 8), big_endian(signature.size() + 12)};
}

}  // namespace sieve::plot
