#include "framework/plot/heat_map.h"

#include <fmt/format.h>

#include <algorithm>

#include "framework/core/error.h"
#include "framework/plot/ticks.h"

namespace sieve::plot {
namespace {

constexpr double bar_width = 10, tick_length = 3, tick_size = 8.5, label_size = 9.5, bar_height = 230;

// Diagonal lines, 6 points apart, on the blank colour.
Color blank_color(int x, int y, double scale) {
    const double period = 6 * scale;
    const double phase = std::fmod(x + y, period) / scale;
    return std::abs(phase - 2.25) < 0.3 ? colors::bad_hatch : colors::bad;
}

// The cells [first, last) that pixel [p, p + 1) shows: those whose middle part it covers, at least one.
std::pair<int64_t, int64_t> cells_of(double from, double to, int64_t count) {
    const auto first = std::clamp<int64_t>(static_cast<int64_t>(std::floor(from + 1e-9)), 0, count - 1);
    const auto last = std::clamp<int64_t>(static_cast<int64_t>(std::floor(to - 1e-9)), first + 1, count);
    return {first, last};
}

}  // namespace

HeatMap::HeatMap(Options options) : o(std::move(options)) {
    if (o.rows < 0 || o.columns < 0 || static_cast<int64_t>(o.values.size()) != o.rows * o.columns)
        fail(fmt::format("heat map: {} values for {} x {} cells", o.values.size(), o.rows, o.columns));
    double smallest = INFINITY, largest = -INFINITY;
    for (const double v : o.values) {
        if (!std::isfinite(v) || (o.under && v < o.low)) continue;
        smallest = std::min(smallest, v);
        largest = std::max(largest, v);
    }
    has_values_ = smallest <= largest;
    low_ = std::isfinite(o.low) ? o.low : (has_values_ ? smallest : 0);
    high_ = std::isfinite(o.high) ? o.high : (has_values_ ? largest : 1);
    clips_low_ = has_values_ && smallest < low_;
    clips_high_ = has_values_ && largest > high_;
    make_usable_range(low_, high_);
}

double HeatMap::share_of(double value) const {
    const double t = (value - low_) / (high_ - low_);
    return o.norm == Norm::linear || t < 0 ? t : std::sqrt(t);
}

Color HeatMap::color_of(double value) const {
    if (o.under && value < low_) return *o.under;
    return o.map.at(share_of(value));
}

void HeatMap::extend(Limits& limits) const {
    if (!has_values_) return;
    limits.include_x(-0.5);
    limits.include_x(static_cast<double>(o.columns) - 0.5);
    limits.include_y(-0.5);
    limits.include_y(static_cast<double>(o.rows) - 0.5);
    limits.tight_x = limits.tight_y = true;
}

double HeatMap::cell_mean(int64_t r0, int64_t r1, int64_t c0, int64_t c1) const {
    if (r1 - r0 == 1 && c1 - c0 == 1) return o.values[static_cast<size_t>(r0 * o.columns + c0)];
    double sum = 0;
    int64_t count = 0;
    for (int64_t r = r0; r < r1; ++r)
        for (int64_t c = c0; c < c1; ++c) {
            const double v = o.values[static_cast<size_t>(r * o.columns + c)];
            if (std::isfinite(v)) sum += v, ++count;
        }
    return 2 * count < (r1 - r0) * (c1 - c0) ? NAN : sum / static_cast<double>(count);
}

void HeatMap::draw(Canvas& canvas, const Transform& to_points) const {
    if (!has_values_) return;
    const double s = canvas.scale();
    const Point a = to_points(-0.5, -0.5), b = to_points(o.columns - 0.5, o.rows - 0.5);
    const int x0 = static_cast<int>(std::lround(a.x * s)), x1 = static_cast<int>(std::lround(b.x * s));
    const int y0 = static_cast<int>(std::lround(a.y * s)), y1 = static_cast<int>(std::lround(b.y * s));
    const double per_x = static_cast<double>(o.columns) / (x1 - x0),
                 per_y = static_cast<double>(o.rows) / (y1 - y0);
    for (int y = y0; y < y1; ++y) {
        const auto [r0, r1] = cells_of((y - y0) * per_y, (y - y0 + 1) * per_y, o.rows);
        for (int x = x0; x < x1; ++x) {
            const auto [c0, c1] = cells_of((x - x0) * per_x, (x - x0 + 1) * per_x, o.columns);
            const double v = cell_mean(r0, r1, c0, c1);
            canvas.set_pixel(x, y, std::isfinite(v) ? color_of(v) : blank_color(x, y, s));
        }
    }
}

// A legend may cover blank cells only.
void HeatMap::occupied(const Transform& to_points, std::vector<Point>& points) const {
    const int64_t row_step = std::max<int64_t>(1, o.rows / 64),
                  column_step = std::max<int64_t>(1, o.columns / 64);
    for (int64_t r = 0; r < o.rows; r += row_step)
        for (int64_t c = 0; c < o.columns; c += column_step)
            if (std::isfinite(o.values[static_cast<size_t>(r * o.columns + c)]))
                points.push_back(to_points(static_cast<double>(c), static_cast<double>(r)));
}

double HeatMap::color_bar_width() const {
    const Ticks ticks = linear_ticks(low_, high_, 6);
    double widest = 0;
    for (const std::string& label : ticks.labels)
        widest = std::max(widest, measure_text(label, tick_size).width);
    return bar_width + tick_length + 3 + widest + (o.bar_label.empty() ? 0 : label_size + 6);
}

void HeatMap::draw_color_bar(Canvas& canvas, const Rect& bar) const {
    // Whole pixels: a row that shared its pixels with the next would let the background shine through.
    const double s = canvas.scale(), x1 = bar.x0 + bar_width;
    const int first = static_cast<int>(std::lround(bar.y0 * s)),
              last = static_cast<int>(std::lround(bar.y1 * s));
    const int left = static_cast<int>(std::lround(bar.x0 * s)), right = static_cast<int>(std::lround(x1 * s));
    for (int y = first; y < last; ++y)
        for (int x = left; x < right; ++x)
            canvas.set_pixel(x, y, o.map.at(1 - (y - first + 0.5) / (last - first)));
    const double middle = (bar.x0 + x1) / 2;
    Contour frame = {{bar.x0, bar.y0}};
    if (clips_high_) frame.push_back({middle, bar.y0 - bar_width});
    frame.insert(frame.end(), {{x1, bar.y0}, {x1, bar.y1}});
    if (clips_low_) frame.push_back({middle, bar.y1 + bar_width});
    frame.insert(frame.end(), {{bar.x0, bar.y1}, {bar.x0, bar.y0}});
    const Contour high_end = {{bar.x0, bar.y0}, {middle, bar.y0 - bar_width}, {x1, bar.y0}};
    const Contour low_end = {{bar.x0, bar.y1}, {middle, bar.y1 + bar_width}, {x1, bar.y1}};
    if (clips_high_) canvas.fill_polygon({&high_end, 1}, o.map.at(1));
    if (clips_low_) canvas.fill_polygon({&low_end, 1}, o.map.at(0));
    canvas.stroke(frame, 0.7, colors::ink);
    const Ticks ticks = linear_ticks(low_, high_, bar.height() > bar_height / 2 ? 6 : 4);
    double widest = 0, last_y = INFINITY;
    for (size_t i = 0; i < ticks.at.size(); ++i) {
        const double y = bar.y1 - share_of(ticks.at[i]) * bar.height();
        canvas.horizontal_line(x1, x1 + tick_length, y, 0.7, colors::ink);
        if (last_y - y < tick_size) continue;
        last_y = y;
        draw_text(canvas, {x1 + tick_length + 3, y}, ticks.labels[i],
                  {.size = tick_size, .v = VAlign::center});
        widest = std::max(widest, measure_text(ticks.labels[i], tick_size).width);
    }
    const std::string label = o.bar_label + (ticks.multiplier.empty() ? "" : " (" + ticks.multiplier + ")");
    draw_text(canvas, {x1 + tick_length + 6 + widest, bar.center().y}, label,
              {.size = label_size, .h = HAlign::center, .v = VAlign::top, .angle = 90});
}

}  // namespace sieve::plot
