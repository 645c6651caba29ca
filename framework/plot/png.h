// PNG encoding (by stb_image_write).
#pragma once

#include <cstdint>
#include <string>

namespace sieve::plot {

// rgb [height, width, 3]
std::string encode_png(const uint8_t* rgb, int width, int height);

}  // namespace sieve::plot
