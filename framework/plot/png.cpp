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

}  // namespace sieve::plot
