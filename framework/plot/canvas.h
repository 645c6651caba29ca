// An opaque picture and the few shapes from which figures are made, all anti-aliased.
//
//   pixel = pixel + (color - pixel) * color.alpha * coverage
//
// Coverage is the share of the pixel that the shape covers. The mix is taken between sRGB-encoded values, as
// Agg and Cairo do: dark text on white keeps its weight (a mix of linear light would make it spindly) and an
// alpha of 0.3 looks like 30 %. A shape is blended once, however often it overlaps itself.
//
// Coordinates are points; a canvas of scale 2 has two pixels per point. Coordinates may lie anywhere outside;
// shapes with a coordinate that is not finite are left out.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "framework/plot/color.h"
#include "framework/plot/geometry.h"

namespace sieve::plot {

struct Pixel {
    uint8_t r = 255, g = 255, b = 255;
    bool operator==(const Pixel&) const = default;
};

using Contour = std::vector<Point>;

class Canvas {
  public:
    // Throws when a side is not between 1 and 32768 pixels, or the picture has more than 2^28 of them.
    Canvas(Size points, double scale = 1, Color background = colors::white);

    int width() const { return width_; }    // pixels
    int height() const { return height_; }  // pixels
    double scale() const { return scale_; }
    Size size() const { return {width_ / scale_, height_ / scale_}; }
    Pixel pixel(int x, int y) const;
    void set_pixel(int x, int y, const Color& color);  // pixels; honours the clip

    // Drawing is limited to this rectangle (and to the canvas) until clear_clip.
    void set_clip(const Rect& clip);
    void clear_clip();

    void fill_rect(const Rect& rect, const Color& color);
    void fill_rounded_rect(const Rect& rect, double radius, const Color& color);
    // Non-zero winding rule over all contours; each is closed.
    void fill_polygon(std::span<const Contour> contours, const Color& color);
    void fill_circle(Point center, double radius, const Color& color);
    // Round joins and caps.
    void stroke(std::span<const Point> points, double width, const Color& color);
    // Lengths of dash, gap, dash, gap ...
    void stroke_dashed(std::span<const Point> points, double width, const Color& color,
                       std::span<const double> pattern);
    // Horizontal or vertical, on whole pixels: crisp.
    void horizontal_line(double x0, double x1, double y, double width, const Color& color);
    void vertical_line(double x, double y0, double y1, double width, const Color& color);

    std::string png() const;
    // Atomic: on an error the old file stays. Throws Error(bad_file).
    void save(const std::string& path) const;

  private:
    struct Box {  // pixels, upper ends excluded
        int x0, y0, x1, y1;
        bool empty() const { return x0 >= x1 || y0 >= y1; }
    };
    Box clipped_box(double x0, double y0, double x1, double y1) const;  // pixel coordinates
    void cover_segment(Point a, Point b, double half_width, Box& dirty);
    void add_span(int y, double x0, double x1, float weight, const Box& box);
    void blend_coverage(const Box& box, const Color& color);
    void blend(int x, int y, const Color& color, double coverage);

    double scale_;
    int width_, height_;
    Box clip_;
    std::vector<Pixel> pixels_;
    std::vector<float> coverage_;  // of the shape being drawn; zero in between
};

}  // namespace sieve::plot
