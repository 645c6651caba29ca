// Colours (sRGB-encoded components in [0, 1]), the categorical palette and colour maps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sieve::plot {

struct Color {
    double r = 0, g = 0, b = 0, alpha = 1;

    static constexpr Color hex(uint32_t rgb) {
        return {((rgb >> 16) & 255) / 255.0, ((rgb >> 8) & 255) / 255.0, (rgb & 255) / 255.0, 1};
    }
    constexpr Color with_alpha(double a) const { return {r, g, b, a}; }
    constexpr Color mixed(const Color& other, double share) const {
        return {r + (other.r - r) * share, g + (other.g - g) * share, b + (other.b - b) * share,
                alpha + (other.alpha - alpha) * share};
    }
};

namespace colors {
inline constexpr Color black = Color::hex(0x000000);
inline constexpr Color white = Color::hex(0xffffff);
inline constexpr Color ink = Color::hex(0x262626);    // text, frames, ticks
inline constexpr Color muted = Color::hex(0x767676);  // remarks
inline constexpr Color grid = Color::hex(0xe3e3e3);
inline constexpr Color blue = Color::hex(0x1f77b4);
inline constexpr Color orange = Color::hex(0xff7f0e);
inline constexpr Color green = Color::hex(0x2ca02c);
inline constexpr Color red = Color::hex(0xd62728);
inline constexpr Color purple = Color::hex(0x9467bd);
// Cells without a value are hatched with these two; no colour map below comes near either.
inline constexpr Color bad = Color::hex(0xdedede);
inline constexpr Color bad_hatch = Color::hex(0xb9b9b9);
}  // namespace colors

// The ten colours of "tab10" in their order, again from the start after the tenth.
Color palette(size_t index);

// A curve through evenly spaced control points, linear in between.
class ColorMap {
  public:
    explicit ColorMap(std::vector<Color> control_points);

    // Uniform in lightness, dark to light (van der Walt and Smith, 2015).
    static ColorMap viridis();
    static ColorMap magma();
    // Blue through near-white to red (ColorBrewer's RdBu, reversed): for values of both signs.
    static ColorMap diverging();

    // t is clamped to [0, 1].
    Color at(double t) const;

  private:
    std::vector<Color> points_;
};

}  // namespace sieve::plot
