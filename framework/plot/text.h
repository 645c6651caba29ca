// Text from glyph outlines: DejaVu Sans by stb_truetype, any size and angle. When the font file is missing,
// stb_easy_font's built-in letters (ASCII only) take its place, which is said once on stderr.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "framework/plot/canvas.h"

namespace sieve::plot {

enum class HAlign { left, center, right };
enum class VAlign { top, center, baseline, bottom };

struct TextStyle {
    double size = 10;  // points
    Color color = colors::ink;
    HAlign h = HAlign::left;
    VAlign v = VAlign::baseline;
    double angle = 0;                // degrees, counter-clockwise, around the anchor
    std::optional<Color> halo = {};  // an outline that keeps text legible on top of lines
};

class Font {
  public:
    // Falls back to the built-in letters when the file cannot be used.
    explicit Font(const std::string& path);
    ~Font();
    Font(const Font&) = delete;
    Font& operator=(const Font&) = delete;
    // DejaVu Sans, loaded at first use.
    static const Font& standard();

    bool is_built_in() const { return data_ == nullptr; }
    // Width of the widest line; height of all lines ('\n' separates them).
    Size measure(std::string_view text, double size) const;
    // The outlines of one line, its baseline starting at (0, 0).
    std::vector<Contour> outlines(std::string_view line, double size) const;

  private:
    struct Data;
    std::unique_ptr<Data> data_;
};

Size measure_text(std::string_view text, double size);
void draw_text(Canvas& canvas, Point anchor, std::string_view text, const TextStyle& style);
void draw_text(Canvas& canvas, Point anchor, std::string_view text, const TextStyle& style, const Font& font);

// Code points of UTF-8 text; each byte that is not part of valid UTF-8 becomes U+FFFD.
std::vector<char32_t> decode_utf8(std::string_view text);

}  // namespace sieve::plot
