#include "framework/plot/canvas.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/plot/png.h"

namespace sieve::plot {
namespace {

int pixels_of(double points, double scale) {
    const double pixels = std::round(points * scale);
    if (!(pixels >= 1 && pixels <= 32768))
        fail(fmt::format("canvas: a side has {} pixels, want 1 to 32768", pixels));
    return static_cast<int>(pixels);
}

bool is_finite(Point p) {
    return std::isfinite(p.x) && std::isfinite(p.y);
}

// Cuts the segment to the part inside `r` (Liang and Barsky); false when there is none.
bool clip_segment(Point& a, Point& b, const Rect& r) {
    double t0 = 0, t1 = 1;
    const double dx = b.x - a.x, dy = b.y - a.y;
    const double p[] = {-dx, dx, -dy, dy};
    const double q[] = {a.x - r.x0, r.x1 - a.x, a.y - r.y0, r.y1 - a.y};
    for (int side = 0; side < 4; ++side) {
        if (p[side] == 0 && q[side] < 0) return false;
        if (p[side] < 0) t0 = std::max(t0, q[side] / p[side]);
        if (p[side] > 0) t1 = std::min(t1, q[side] / p[side]);
    }
    if (t0 > t1) return false;
    b = {a.x + t1 * dx, a.y + t1 * dy};
    a = {a.x + t0 * dx, a.y + t0 * dy};
    return true;
}

uint8_t mixed(uint8_t below, double above, double share) {
    return static_cast<uint8_t>(std::lround(below + (255 * above - below) * share));
}

// Where an edge of a polygon crosses the middle of one of a pixel's sub-rows.
struct Crossing {
    int row;
    double x;
    int direction;
};

constexpr int sub_rows = 16;

void add_crossings(Point a, Point b, double y_low, double y_high, std::vector<Crossing>& crossings) {
    const int direction = a.y < b.y ? 1 : -1;
    if (direction < 0) std::swap(a, b);
    const double slope = (b.x - a.x) / (b.y - a.y);
    const double first = std::max(a.y, y_low), last = std::min(b.y, y_high);
    for (int row = static_cast<int>(std::ceil(first * sub_rows - 0.5)); (row + 0.5) / sub_rows < last; ++row)
        crossings.push_back({row, a.x + ((row + 0.5) / sub_rows - a.y) * slope, direction});
}

}  // namespace

Canvas::Canvas(Size points, double scale, Color background)
    : scale_(scale), width_(pixels_of(points.width, scale)), height_(pixels_of(points.height, scale)) {
    const auto count = static_cast<size_t>(width_) * static_cast<size_t>(height_);
    // The PNG encoder counts bytes in an int.
    if (count > (size_t{1} << 28)) fail(fmt::format("canvas: {} x {} pixels are too many", width_, height_));
    pixels_.resize(count);
    coverage_.assign(count, 0.0f);
    clear_clip();
    fill_rect({0, 0, width_ / scale_, height_ / scale_}, background);
}

Pixel Canvas::pixel(int x, int y) const {
    if (x < 0 || y < 0 || x >= width_ || y >= height_) fail("canvas: pixel outside the picture");
    return pixels_[static_cast<size_t>(y) * static_cast<size_t>(width_) + static_cast<size_t>(x)];
}

void Canvas::set_pixel(int x, int y, const Color& color) {
    if (x >= clip_.x0 && y >= clip_.y0 && x < clip_.x1 && y < clip_.y1) blend(x, y, color, 1);
}

void Canvas::set_clip(const Rect& clip) {
    clear_clip();
    clip_ = clipped_box(std::round(clip.x0 * scale_), std::round(clip.y0 * scale_),
                        std::round(clip.x1 * scale_), std::round(clip.y1 * scale_));
}

void Canvas::clear_clip() {
    clip_ = {0, 0, width_, height_};
}

Canvas::Box Canvas::clipped_box(double x0, double y0, double x1, double y1) const {
    const auto inside = [](double v, int low, int high) {
        return static_cast<int>(std::clamp<double>(v, low, high));
    };
    return {inside(std::floor(x0), clip_.x0, clip_.x1), inside(std::floor(y0), clip_.y0, clip_.y1),
            inside(std::ceil(x1), clip_.x0, clip_.x1), inside(std::ceil(y1), clip_.y0, clip_.y1)};
}

void Canvas::blend(int x, int y, const Color& color, double coverage) {
    Pixel& p = pixels_[static_cast<size_t>(y) * static_cast<size_t>(width_) + static_cast<size_t>(x)];
    const double share = color.alpha * std::min(coverage, 1.0);
    p = {mixed(p.r, color.r, share), mixed(p.g, color.g, share), mixed(p.b, color.b, share)};
}

// Blends the collected coverage and clears it.
void Canvas::blend_coverage(const Box& box, const Color& color) {
    for (int y = box.y0; y < box.y1; ++y) {
        float* row = coverage_.data() + static_cast<size_t>(y) * static_cast<size_t>(width_);
        for (int x = box.x0; x < box.x1; ++x) {
            if (row[x] > 0) blend(x, y, color, row[x]);
            row[x] = 0;
        }
    }
}

void Canvas::fill_rect(const Rect& rect, const Color& color) {
    const double x0 = rect.x0 * scale_, y0 = rect.y0 * scale_, x1 = rect.x1 * scale_, y1 = rect.y1 * scale_;
    if (!(x0 < x1 && y0 < y1)) return;
    const Box box = clipped_box(x0, y0, x1, y1);
    for (int y = box.y0; y < box.y1; ++y) {
        const double covered_y = std::min<double>(y1, y + 1) - std::max<double>(y0, y);
        for (int x = box.x0; x < box.x1; ++x)
            blend(x, y, color, covered_y * (std::min<double>(x1, x + 1) - std::max<double>(x0, x)));
    }
}

void Canvas::fill_rounded_rect(const Rect& rect, double radius, const Color& color) {
    const Rect inner = rect.expanded(-radius);
    const Point centers[] = {
        {inner.x1, inner.y1}, {inner.x0, inner.y1}, {inner.x0, inner.y0}, {inner.x1, inner.y0}};
    Contour contour;
    for (int corner = 0; corner < 4; ++corner) {
        for (int i = 0; i <= 8; ++i) {
            const double angle = (corner + i / 8.0) * std::numbers::pi / 2;
            contour.push_back(
                {centers[corner].x + radius * std::cos(angle), centers[corner].y + radius * std::sin(angle)});
        }
    }
    fill_polygon({&contour, 1}, color);
}

// Adds the part of [x0, x1) that lies in each pixel of a row, times `weight`.
void Canvas::add_span(int y, double x0, double x1, float weight, const Box& box) {
    x0 = std::max<double>(x0, box.x0);
    x1 = std::min<double>(x1, box.x1);
    if (!(x0 < x1)) return;
    float* row = coverage_.data() + static_cast<size_t>(y) * static_cast<size_t>(width_);
    const int first = static_cast<int>(x0), last = std::min(static_cast<int>(x1), box.x1 - 1);
    if (first == last) {
        row[first] += weight * static_cast<float>(x1 - x0);
        return;
    }
    row[first] += weight * static_cast<float>(first + 1 - x0);
    for (int x = first + 1; x < last; ++x) row[x] += weight;
    row[last] += weight * static_cast<float>(x1 - last);
}

void Canvas::fill_polygon(std::span<const Contour> contours, const Color& color) {
    double x0 = 1e30, y0 = 1e30, x1 = -1e30, y1 = -1e30;
    for (const Contour& contour : contours) {
        for (const Point p : contour) {
            if (!is_finite(p)) return;
            x0 = std::min(x0, p.x * scale_), x1 = std::max(x1, p.x * scale_);
            y0 = std::min(y0, p.y * scale_), y1 = std::max(y1, p.y * scale_);
        }
    }
    const Box box = clipped_box(x0, y0, x1, y1);
    if (box.empty()) return;
    std::vector<Crossing> crossings;
    for (const Contour& contour : contours) {
        for (size_t i = 0; i < contour.size(); ++i) {
            const Point a = contour[i], b = contour[i + 1 < contour.size() ? i + 1 : 0];
            if (a.y == b.y) continue;
            add_crossings({a.x * scale_, a.y * scale_}, {b.x * scale_, b.y * scale_}, box.y0, box.y1,
                          crossings);
        }
    }
    std::sort(crossings.begin(), crossings.end(), [](const Crossing& a, const Crossing& b) {
        return a.row != b.row ? a.row < b.row : a.x < b.x;
    });
    int winding = 0;
    for (size_t i = 0; i + 1 < crossings.size(); ++i) {
        winding += crossings[i].direction;
        if (winding != 0)
            add_span(crossings[i].row / sub_rows, crossings[i].x, crossings[i + 1].x, 1.0f / sub_rows, box);
    }
    blend_coverage(box, color);
}

void Canvas::fill_circle(Point center, double radius, const Color& color) {
    if (!is_finite(center)) return;
    const double cx = center.x * scale_, cy = center.y * scale_, r = radius * scale_;
    const Box box = clipped_box(cx - r - 1, cy - r - 1, cx + r + 1, cy + r + 1);
    for (int y = box.y0; y < box.y1; ++y)
        for (int x = box.x0; x < box.x1; ++x)
            blend(x, y, color, std::clamp(r + 0.5 - std::hypot(x + 0.5 - cx, y + 0.5 - cy), 0.0, 1.0));
}

// Coverage of the segment by the distance of each pixel from it; the largest over all segments stays.
void Canvas::cover_segment(Point a, Point b, double half_width, Box& dirty) {
    const double reach = half_width + 1;
    const Rect visible =
        Rect{double(clip_.x0), double(clip_.y0), double(clip_.x1), double(clip_.y1)}.expanded(reach);
    if (!is_finite(a) || !is_finite(b) || !clip_segment(a, b, visible)) return;
    const Box box = clipped_box(std::min(a.x, b.x) - reach, std::min(a.y, b.y) - reach,
                                std::max(a.x, b.x) + reach, std::max(a.y, b.y) + reach);
    if (box.empty()) return;
    const double dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy;
    // A line thinner than a pixel is drawn one pixel wide and as much fainter.
    const double drawn = std::max(half_width, 0.5), strength = half_width / drawn;
    for (int y = box.y0; y < box.y1; ++y) {
        float* row = coverage_.data() + static_cast<size_t>(y) * static_cast<size_t>(width_);
        for (int x = box.x0; x < box.x1; ++x) {
            const double px = x + 0.5 - a.x, py = y + 0.5 - a.y;
            const double t = length2 > 0 ? std::clamp((px * dx + py * dy) / length2, 0.0, 1.0) : 0;
            const double distance = std::sqrt((px - t * dx) * (px - t * dx) + (py - t * dy) * (py - t * dy));
            const double coverage = strength * std::clamp(drawn + 0.5 - distance, 0.0, 1.0);
            row[x] = std::max(row[x], static_cast<float>(coverage));
        }
    }
    dirty = {std::min(dirty.x0, box.x0), std::min(dirty.y0, box.y0), std::max(dirty.x1, box.x1),
             std::max(dirty.y1, box.y1)};
}

void Canvas::stroke(std::span<const Point> points, double width, const Color& color) {
    Box dirty{width_, height_, 0, 0};
    const auto scaled = [&](Point p) { return Point{p.x * scale_, p.y * scale_}; };
    for (size_t i = 0; i + 1 < points.size(); ++i)
        cover_segment(scaled(points[i]), scaled(points[i + 1]), width * scale_ / 2, dirty);
    if (!dirty.empty()) blend_coverage(dirty, color);
}

void Canvas::stroke_dashed(std::span<const Point> points, double width, const Color& color,
                           std::span<const double> pattern) {
    const Rect visible = Rect{0, 0, width_ / scale_, height_ / scale_}.expanded(width);
    size_t part = 0;  // even: a dash; odd: a gap
    double left = pattern.empty() ? 0 : pattern[0];
    Contour dash;
    for (size_t i = 0; i + 1 < points.size(); ++i) {
        Point a = points[i], b = points[i + 1];
        if (!is_finite(a) || !is_finite(b) || !clip_segment(a, b, visible)) continue;
        const double length = std::hypot(b.x - a.x, b.y - a.y);
        if (part % 2 == 0) dash.push_back(a);
        double done = 0;
        while (left > 0 && length - done >= left) {
            done += left;
            const Point p{a.x + (b.x - a.x) * done / length, a.y + (b.y - a.y) * done / length};
            dash.push_back(p);
            if (part % 2 == 0) stroke(dash, width, color);
            dash.clear();
            part = (part + 1) % pattern.size();
            left = pattern[part];
            if (part % 2 == 0) dash.push_back(p);
        }
        left -= length - done;
        if (part % 2 == 0) dash.push_back(b);
    }
    if (part % 2 == 0) stroke(dash, width, color);
}

void Canvas::horizontal_line(double x0, double x1, double y, double width, const Color& color) {
    const double thickness = std::max(1.0, std::round(width * scale_));
    const double top = std::round(y * scale_ - thickness / 2);
    const Rect rect{x0, top / scale_, x1, (top + thickness) / scale_};
    fill_rect(rect, color);
}

void Canvas::vertical_line(double x, double y0, double y1, double width, const Color& color) {
    const double thickness = std::max(1.0, std::round(width * scale_));
    const double left = std::round(x * scale_ - thickness / 2);
    fill_rect({left / scale_, y0, (left + thickness) / scale_, y1}, color);
}

std::string Canvas::png() const {
    return encode_png(&pixels_[0].r, width_, height_);
}

void Canvas::save(const std::string& path) const {
    write_file_atomic(path, png());
}

}  // namespace sieve::plot
