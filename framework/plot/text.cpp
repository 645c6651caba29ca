#include "framework/plot/text.h"

#include <cmath>
#include <cstdio>
#include <numbers>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"

#define STBTT_STATIC
#define STB_TRUETYPE_IMPLEMENTATION
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_easy_font.h>
#include <stb/stb_truetype.h>
#pragma GCC diagnostic pop

namespace sieve::plot {
namespace {

constexpr double line_height = 1.2;              // of the font size
constexpr double ascent = 0.76, descent = 0.24;  // of the font size: letters with accents excluded
constexpr double cap_height = 0.73;              // of the font size
#ifndef SIEVE_FONT                               // a bundle brings its own
#define SIEVE_FONT "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
#endif
constexpr const char* font_path = SIEVE_FONT;

std::vector<std::string_view> lines_of(std::string_view text) {
    std::vector<std::string_view> lines;
    while (true) {
        const size_t end = text.find('\n');
        lines.push_back(text.substr(0, end));
        if (end == std::string_view::npos) return lines;
        text.remove_prefix(end + 1);
    }
}

// What the built-in letters show for characters that they lack.
std::string ascii_of(std::string_view text) {
    std::string out;
    for (const char32_t c : decode_utf8(text)) {
        if (c >= 32 && c < 127)
            out += static_cast<char>(c);
        else if (c == U'×')
            out += 'x';
        else if (c == U'−' || c == U'⁻' || c == U'–')
            out += '-';
        else if (c == U'²')
            out += "^2";
        else if (c == U'≤')
            out += "<=";
        else if (c == U'≥')
            out += ">=";
        else if (c == U'±')
            out += "+-";
        else if (c == U'·')
            out += '.';
        else
            out += '?';
    }
    return out;
}

constexpr double easy_font_height = 9;  // units from the top of a line to its baseline, about

Contour flattened(const stbtt_vertex* begin, const stbtt_vertex* end, double x, double scale) {
    Contour contour;
    const auto at = [&](double px, double py) { return Point{x + px * scale, -py * scale}; };
    for (const stbtt_vertex* v = begin; v != end; ++v) {
        if (v->type == STBTT_vcurve) {
            const Point a = contour.back(), c = at(v->cx, v->cy), b = at(v->x, v->y);
            for (int i = 1; i < 6; ++i) {
                const double t = i / 6.0, s = 1 - t;
                contour.push_back({s * s * a.x + 2 * s * t * c.x + t * t * b.x,
                                   s * s * a.y + 2 * s * t * c.y + t * t * b.y});
            }
        }
        contour.push_back(at(v->x, v->y));
    }
    return contour;
}

std::vector<Contour> easy_font_outlines(std::string_view line, double size) {
    struct Vertex {
        float x, y, z;
        unsigned char color[4];
    };
    std::string text = ascii_of(line);
    std::vector<Vertex> vertices(text.size() * 64 + 4);
    const int quads = stb_easy_font_print(0, 0, text.data(), nullptr, vertices.data(),
                                          static_cast<int>(vertices.size() * sizeof(Vertex)));
    std::vector<Contour> contours;
    const double unit = size / 11;
    for (int q = 0; q < quads; ++q) {
        Contour contour;
        for (int corner = 0; corner < 4; ++corner) {
            const Vertex& v = vertices[static_cast<size_t>(4 * q + corner)];
            contour.push_back({v.x * unit, (v.y - easy_font_height) * unit});
        }
        contours.push_back(std::move(contour));
    }
    return contours;
}

// The distance from the anchor to the first baseline.
double first_baseline(VAlign v, double size, size_t lines) {
    const double more = static_cast<double>(lines - 1) * line_height * size;
    switch (v) {
        case VAlign::top:
            return ascent * size;
        case VAlign::center:
            return (cap_height * size - more) / 2;
        case VAlign::bottom:
            return -descent * size - more;
        case VAlign::baseline:
            break;
    }
    return 0;
}

}  // namespace

std::vector<char32_t> decode_utf8(std::string_view text) {
    std::vector<char32_t> out;
    for (size_t i = 0; i < text.size();) {
        const auto lead = static_cast<unsigned char>(text[i]);
        const size_t length = lead < 0x80         ? 1
                              : (lead >> 5) == 6  ? 2
                              : (lead >> 4) == 14 ? 3
                              : (lead >> 3) == 30 ? 4
                                                  : 0;
        char32_t c = length == 1 ? lead : lead & (0xffu >> (length + 1));
        bool valid = length > 0 && i + length <= text.size();
        for (size_t j = 1; valid && j < length; ++j) {
            const auto next = static_cast<unsigned char>(text[i + j]);
            valid = (next & 0xc0) == 0x80;
            c = (c << 6) | (next & 0x3f);
        }
        constexpr char32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
        valid = valid && c >= smallest[length] && c <= 0x10ffff && !(c >= 0xd800 && c < 0xe000);
        out.push_back(valid ? c : U'\ufffd');
        i += valid ? length : 1;
    }
    return out;
}

struct Font::Data {
    std::string file;
    stbtt_fontinfo info;
};

Font::Font(const std::string& path) : data_(std::make_unique<Data>()) {
    try {
        data_->file = read_file(path);
        const auto* bytes = reinterpret_cast<const unsigned char*>(data_->file.data());
        // stb_truetype trusts its input; the check keeps out files that are no font at all.
        if (data_->file.size() > 1024 && stbtt_GetFontOffsetForIndex(bytes, 0) == 0 &&
            stbtt_InitFont(&data_->info, bytes, 0) != 0)
            return;
        std::fprintf(stderr, "%s: not a TrueType font; figures use plain built-in letters\n", path.c_str());
    } catch (const Error& e) {
        std::fprintf(
            stderr,
            "%s; figures use plain built-in letters (Debian package fonts-dejavu-core has the font)\n",
            e.what());
    }
    data_.reset();
}

Font::~Font() = default;

const Font& Font::standard() {
    static const Font font(font_path);
    return font;
}

std::vector<Contour> Font::outlines(std::string_view line, double size) const {
    if (is_built_in()) return easy_font_outlines(line, size);
    const stbtt_fontinfo* info = &data_->info;
    const double scale = stbtt_ScaleForMappingEmToPixels(info, 1) * size;
    std::vector<Contour> contours;
    double x = 0;
    int previous = 0;
    for (const char32_t c : decode_utf8(line)) {
        const int glyph = stbtt_FindGlyphIndex(info, static_cast<int>(c));
        if (previous != 0) x += scale * stbtt_GetGlyphKernAdvance(info, previous, glyph);
        stbtt_vertex* vertices = nullptr;
        const int count = stbtt_GetGlyphShape(info, glyph, &vertices);
        for (int begin = 0, end = 0; begin < count; begin = end) {
            for (end = begin + 1; end < count && vertices[end].type != STBTT_vmove;) ++end;
            contours.push_back(flattened(vertices + begin, vertices + end, x, scale));
        }
        stbtt_FreeShape(info, vertices);
        int advance = 0, bearing = 0;
        stbtt_GetGlyphHMetrics(info, glyph, &advance, &bearing);
        x += scale * advance;
        previous = glyph;
    }
    return contours;
}

Size Font::measure(std::string_view text, double size) const {
    const std::vector<std::string_view> lines = lines_of(text);
    double widest = 0;
    for (const std::string_view line : lines) {
        double width = 0;
        if (is_built_in()) {
            std::string ascii = ascii_of(line);
            width = stb_easy_font_width(ascii.data()) * size / 11;
        } else {
            const double scale = stbtt_ScaleForMappingEmToPixels(&data_->info, 1) * size;
            int previous = 0;
            for (const char32_t c : decode_utf8(line)) {
                const int glyph = stbtt_FindGlyphIndex(&data_->info, static_cast<int>(c));
                int advance = 0, bearing = 0;
                stbtt_GetGlyphHMetrics(&data_->info, glyph, &advance, &bearing);
                if (previous != 0) advance += stbtt_GetGlyphKernAdvance(&data_->info, previous, glyph);
                width += scale * advance;
                previous = glyph;
            }
        }
        widest = std::max(widest, width);
    }
    return {widest, size * (1 + line_height * static_cast<double>(lines.size() - 1))};
}

Size measure_text(std::string_view text, double size) {
    return Font::standard().measure(text, size);
}

void draw_text(Canvas& canvas, Point anchor, std::string_view text, const TextStyle& style) {
    draw_text(canvas, anchor, text, style, Font::standard());
}

void draw_text(Canvas& canvas, Point anchor, std::string_view text, const TextStyle& style,
               const Font& font) {
    const double angle = style.angle * std::numbers::pi / 180, cosine = std::cos(angle),
                 sine = std::sin(angle);
    const std::vector<std::string_view> lines = lines_of(text);
    double y = first_baseline(style.v, style.size, lines.size());
    for (const std::string_view line : lines) {
        const double width = font.measure(line, style.size).width;
        const double x = style.h == HAlign::left ? 0 : style.h == HAlign::center ? -width / 2 : -width;
        std::vector<Contour> contours = font.outlines(line, style.size);
        for (Contour& contour : contours)
            for (Point& p : contour) {
                const double dx = p.x + x, dy = p.y + y;
                p = {anchor.x + dx * cosine + dy * sine, anchor.y - dx * sine + dy * cosine};
            }
        if (style.halo) {
            for (Contour contour : contours) {
                contour.push_back(contour.front());
                canvas.stroke(contour, 0.3 * style.size, *style.halo);
            }
        }
        canvas.fill_polygon(contours, style.color);
        y += line_height * style.size;
    }
}

}  // namespace sieve::plot
