// Points, sizes and rectangles on a canvas: x to the right, y down, in typographic points.
#pragma once

#include <algorithm>

namespace sieve::plot {

struct Point {
    double x = 0, y = 0;
};

struct Size {
    double width = 0, height = 0;
};

struct Rect {
    double x0 = 0, y0 = 0, x1 = 0, y1 = 0;

    double width() const { return x1 - x0; }
    double height() const { return y1 - y0; }
    Point center() const { return {(x0 + x1) / 2, (y0 + y1) / 2}; }
    bool contains(Point p) const { return p.x >= x0 && p.x <= x1 && p.y >= y0 && p.y <= y1; }
    Rect expanded(double by) const { return {x0 - by, y0 - by, x1 + by, y1 + by}; }
    Rect intersected(const Rect& o) const {
        return {std::max(x0, o.x0), std::max(y0, o.y0), std::min(x1, o.x1), std::min(y1, o.y1)};
    }
};

// Space around a rectangle.
struct Insets {
    double left = 0, top = 0, right = 0, bottom = 0;
};

}  // namespace sieve::plot
