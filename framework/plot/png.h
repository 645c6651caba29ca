// PNG encoding (by stb_image_write), and the size of a PNG.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sieve::plot {

// rgb [height, width, 3]
std::string encode_png(const uint8_t* rgb, int width, int height);

struct PngSize {
    int64_t width, height;
};
// Nothing unless the bytes are a whole PNG: the signature, and chunks that end with IEND where the bytes end.
std::optional<PngSize> png_size(std::string_view bytes);

}  // namespace sieve::plot
