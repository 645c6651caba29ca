#include "framework/plot/artists.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numbers>

#include "framework/plot/ticks.h"

namespace sieve::plot {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double value_label_size = 9;

double scaled(Scale scale, double v) {
    if (scale == Scale::linear) return v;
    return v > 0 ? std::log(v) : nan;
}

bool is_finite(Point p) {
    return std::isfinite(p.x) && std::isfinite(p.y);
}

// The parts between points that are not finite.
std::vector<Contour> unbroken_parts(const std::vector<double>& x, const std::vector<double>& y,
                                    const Transform& to_points) {
    std::vector<Contour> parts(1);
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
        const Point p = to_points(x[i], y[i]);
        if (is_finite(p))
            parts.back().push_back(p);
        else if (!parts.back().empty())
            parts.emplace_back();
    }
    if (parts.back().empty()) parts.pop_back();
    return parts;
}

void add_along(Point a, Point b, std::vector<Point>& points) {
    const int steps = std::clamp(static_cast<int>(std::hypot(b.x - a.x, b.y - a.y) / 4), 1, 500);
    for (int i = 0; i <= steps; ++i)
        points.push_back({a.x + (b.x - a.x) * i / steps, a.y + (b.y - a.y) * i / steps});
}

void add_rect(const Rect& r, std::vector<Point>& points) {
    for (double y = std::min(r.y0, r.y1); y <= std::max(r.y0, r.y1); y += 5)
        add_along({r.x0, y}, {r.x1, y}, points);
}

// value - error to value + error, with a cap at either end.
void draw_error_bar(Canvas& canvas, const Transform& to_points, double x, double value, double error,
                    const Color& color) {
    const double middle = to_points.x(x);
    const double high = to_points.y(value + error), low = to_points.y(value - error);
    canvas.vertical_line(middle, high, low, 1, color);
    for (const double y : {high, low}) canvas.horizontal_line(middle - 4, middle + 4, y, 1, color);
}

void fill_band(Canvas& canvas, const Transform& to_points, const Line::Options& o, const Color& color) {
    const size_t count = std::min({o.x.size(), o.low.size(), o.high.size()});
    Contour upper, lower;
    const auto flush = [&] {
        upper.insert(upper.end(), lower.rbegin(), lower.rend());
        if (upper.size() > 2) canvas.fill_polygon({&upper, 1}, color);
        upper.clear();
        lower.clear();
    };
    for (size_t i = 0; i < count; ++i) {
        const Point high = to_points(o.x[i], o.high[i]);
        Point low = to_points(o.x[i], o.low[i]);
        // Mean minus deviation may be negative on a log scale: the band then reaches the lower end.
        if (is_finite(high) && std::isnan(low.y) && std::isfinite(o.low[i]))
            low = {high.x, to_points.y.begin};
        if (is_finite(low) && is_finite(high)) {
            upper.push_back(high);
            lower.push_back(low);
        } else {
            flush();
        }
    }
    flush();
}

}  // namespace

double AxisMap::operator()(double value) const {
    const double a = scaled(scale, low), b = scaled(scale, high);
    return begin + (end - begin) * (scaled(scale, value) - a) / (b - a);
}

void Limits::include_x(double v) {
    if (!std::isfinite(v) || (x_scale != Scale::linear && v <= 0)) return;
    x0 = std::min(x0, v);
    x1 = std::max(x1, v);
}

void Limits::include_y(double v) {
    if (!std::isfinite(v) || (y_scale != Scale::linear && v <= 0)) return;
    y0 = std::min(y0, v);
    y1 = std::max(y1, v);
}

double quantile(std::vector<double> values, double share) {
    std::erase_if(values, [](double v) { return !std::isfinite(v); });
    if (values.empty()) return nan;
    std::sort(values.begin(), values.end());
    const double rank = std::clamp(share, 0.0, 1.0) * static_cast<double>(values.size() - 1);
    const size_t below = static_cast<size_t>(rank), above = std::min(below + 1, values.size() - 1);
    return values[below] + (values[above] - values[below]) * (rank - static_cast<double>(below));
}

double mean_of(const std::vector<double>& values) {
    double sum = 0;
    size_t count = 0;
    for (const double v : values)
        if (std::isfinite(v)) sum += v, ++count;
    return count == 0 ? nan : sum / static_cast<double>(count);
}

// ---- Line

void Line::extend(Limits& limits) const {
    for (size_t i = 0; i < std::min(o.x.size(), o.y.size()); ++i) {
        if (!std::isfinite(o.x[i]) || !std::isfinite(o.y[i])) continue;
        limits.include_x(o.x[i]);
        limits.include_y(o.y[i]);
        if (i < o.low.size()) limits.include_y(o.low[i]);
        if (i < o.high.size()) limits.include_y(o.high[i]);
        if (i >= o.errors.size()) continue;
        limits.include_y(o.y[i] - o.errors[i]);
        limits.include_y(o.y[i] + o.errors[i]);
    }
}

void Line::draw(Canvas& canvas, const Transform& to_points) const {
    const Color color = o.color->with_alpha(o.alpha);
    fill_band(canvas, to_points, o, o.color->with_alpha(0.2 * o.alpha));
    for (const Contour& part : unbroken_parts(o.x, o.y, to_points)) {
        if (part.size() == 1 && o.marker == 0) canvas.fill_circle(part[0], o.width, color);
        if (o.dashes.empty())
            canvas.stroke(part, o.width, color);
        else
            canvas.stroke_dashed(part, o.width, color, o.dashes);
        if (o.marker > 0)
            for (const Point p : part) canvas.fill_circle(p, o.marker / 2, color);
    }
    for (size_t i = 0; i < std::min({o.x.size(), o.y.size(), o.errors.size()}); ++i)
        if (o.errors[i] > 0) draw_error_bar(canvas, to_points, o.x[i], o.y[i], o.errors[i], color);
}

void Line::occupied(const Transform& to_points, std::vector<Point>& points) const {
    for (const auto* y : {&o.y, &o.low, &o.high})
        for (const Contour& part : unbroken_parts(o.x, *y, to_points))
            for (size_t i = 0; i < part.size(); ++i) add_along(part[i > 0 ? i - 1 : 0], part[i], points);
    for (size_t i = 0; i < std::min({o.x.size(), o.y.size(), o.errors.size()}); ++i)
        if (o.errors[i] > 0)
            add_along(to_points(o.x[i], o.y[i] - o.errors[i]), to_points(o.x[i], o.y[i] + o.errors[i]),
                      points);
}

std::optional<LegendEntry> Line::legend() const {
    if (o.label.empty()) return std::nullopt;
    const auto kind = o.marker > 0 ? LegendEntry::Kind::line_with_marker : LegendEntry::Kind::line;
    return LegendEntry{kind, o.label, o.color->with_alpha(o.alpha), o.width, o.dashes};
}

// ---- Scatter

void Scatter::extend(Limits& limits) const {
    for (size_t i = 0; i < std::min(o.x.size(), o.y.size()); ++i) {
        if (!std::isfinite(o.x[i]) || !std::isfinite(o.y[i])) continue;
        limits.include_x(o.x[i]);
        limits.include_y(o.y[i]);
    }
}

void Scatter::draw(Canvas& canvas, const Transform& to_points) const {
    for (size_t i = 0; i < std::min(o.x.size(), o.y.size()); ++i)
        canvas.fill_circle(to_points(o.x[i], o.y[i]), o.size / 2, o.color->with_alpha(o.alpha));
}

void Scatter::occupied(const Transform& to_points, std::vector<Point>& points) const {
    for (size_t i = 0; i < std::min(o.x.size(), o.y.size()); ++i) points.push_back(to_points(o.x[i], o.y[i]));
}

std::optional<LegendEntry> Scatter::legend() const {
    if (o.label.empty()) return std::nullopt;
    return LegendEntry{LegendEntry::Kind::marker, o.label, o.color->with_alpha(o.alpha), o.size, {}};
}

// ---- Bars

double Bars::top(size_t i) const {
    if (i >= o.values.size() || !std::isfinite(o.values[i])) return nan;
    const double error = i < o.errors.size() && std::isfinite(o.errors[i]) ? o.errors[i] : 0;
    return std::max(0.0, o.values[i] + error);
}

std::string Bars::value_label(size_t i) const {
    if (i < o.value_labels.size()) return o.value_labels[i];
    double largest = 0;
    for (const double v : o.values)
        if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
    if (largest < 1e-3 || largest >= 1e7) return format_number(o.values[i]);
    const std::string text = fmt::format("{:.{}f}", std::abs(o.values[i]), decimals_for(largest));
    return (o.values[i] < 0 ? "−" : "") + text;
}

void Bars::extend(Limits& limits) const {
    for (size_t i = 0; i < o.values.size(); ++i) {
        if (std::isnan(top(i))) continue;
        limits.include_x(static_cast<double>(i) + o.offset - 0.5);
        limits.include_x(static_cast<double>(i) + o.offset + 0.5);
        limits.include_y(top(i));
        limits.include_y(std::min(0.0, o.values[i]));
        limits.from_zero = limits.from_zero || o.values[i] >= 0;
    }
    limits.tight_x = true;
    limits.headroom = std::max(limits.headroom, 0.1);
}

void Bars::draw(Canvas& canvas, const Transform& to_points) const {
    for (size_t i = 0; i < o.values.size(); ++i) {
        if (std::isnan(top(i))) continue;
        const double x = static_cast<double>(i) + o.offset;
        const Color color = o.colors.empty() ? palette(0) : o.colors[i % o.colors.size()];
        const double zero = to_points.y.scale == Scale::linear ? to_points.y(0) : to_points.y.begin;
        const Point a = to_points(x - o.width / 2, o.values[i]), b = to_points(x + o.width / 2, o.values[i]);
        canvas.fill_rect({a.x, std::min(a.y, zero), b.x, std::max(a.y, zero)}, color);
        if (i >= o.errors.size() || !(o.errors[i] > 0)) continue;
        draw_error_bar(canvas, to_points, x, o.values[i], o.errors[i], colors::ink);
    }
}

void Bars::draw_labels(Canvas& canvas, const Transform& to_points) const {
    for (size_t i = 0; i < o.values.size(); ++i) {
        if (std::isnan(top(i))) continue;
        const Point p = to_points(static_cast<double>(i) + o.offset, top(i));
        draw_text(
            canvas, {p.x, p.y - 3}, value_label(i),
            {.size = value_label_size, .h = HAlign::center, .v = VAlign::bottom, .halo = colors::white});
    }
}

void Bars::occupied(const Transform& to_points, std::vector<Point>& points) const {
    for (size_t i = 0; i < o.values.size(); ++i) {
        if (std::isnan(top(i))) continue;
        const double x = static_cast<double>(i) + o.offset;
        const Point a = to_points(x - o.width / 2, top(i)), b = to_points(x + o.width / 2, 0);
        add_rect({a.x, a.y - 14, b.x, to_points.plot.y1}, points);
    }
}

std::optional<LegendEntry> Bars::legend() const {
    if (o.label.empty()) return std::nullopt;
    return LegendEntry{LegendEntry::Kind::patch, o.label, o.colors.empty() ? palette(0) : o.colors[0], 1, {}};
}

// ---- Bracket

void Bracket::extend(Limits& limits) const {
    limits.headroom = std::max(limits.headroom, 0.26);
}

void Bracket::draw_labels(Canvas& canvas, const Transform& to_points) const {
    const double x0 = to_points.x(from), x1 = to_points.x(to), level = to_points.y(y) - 21;
    if (!std::isfinite(level)) return;
    const Point shape[] = {{x0, level + 5}, {x0, level}, {x1, level}, {x1, level + 5}};
    canvas.stroke(shape, 1, colors::ink);
    draw_text(canvas, {(x0 + x1) / 2, level - 3}, text,
              {.size = 9.5, .h = HAlign::center, .v = VAlign::bottom, .halo = colors::white});
}

// ---- Steps

void Steps::extend(Limits& limits) const {
    for (size_t i = 0; i < o.heights.size(); ++i) {
        if (i + 1 >= o.edges.size() || !std::isfinite(o.heights[i])) continue;
        limits.include_x(o.edges[i]);
        limits.include_x(o.edges[i + 1]);
        limits.include_y(o.heights[i]);
    }
    if (limits.y_scale == Scale::linear && !o.heights.empty()) limits.include_y(0);
    limits.from_zero = true;
}

void Steps::draw(Canvas& canvas, const Transform& to_points) const {
    if (o.heights.empty() || o.edges.size() != o.heights.size() + 1) return;
    const double base = to_points.y.begin;
    Contour outline = {{to_points.x(o.edges[0]), base}};
    for (size_t i = 0; i < o.heights.size(); ++i) {
        const double level = to_points.y(o.heights[i]), y = std::isfinite(level) ? level : base;
        outline.push_back({to_points.x(o.edges[i]), y});
        outline.push_back({to_points.x(o.edges[i + 1]), y});
    }
    outline.push_back({to_points.x(o.edges.back()), base});
    if (o.filled) canvas.fill_polygon({&outline, 1}, o.color->with_alpha(0.35));
    canvas.stroke(outline, 1.3, *o.color);
}

void Steps::occupied(const Transform& to_points, std::vector<Point>& points) const {
    for (size_t i = 0; i < o.heights.size() && i + 1 < o.edges.size(); ++i) {
        const Point a = to_points(o.edges[i], o.heights[i]), b = to_points(o.edges[i + 1], o.heights[i]);
        if (is_finite(a) && is_finite(b)) add_rect({a.x, a.y, b.x, to_points.plot.y1}, points);
    }
}

std::optional<LegendEntry> Steps::legend() const {
    if (o.label.empty()) return std::nullopt;
    return LegendEntry{
        o.filled ? LegendEntry::Kind::patch : LegendEntry::Kind::line, o.label, *o.color, 1.3, {}};
}

// ---- Boxes

Boxes::Boxes(Options options) : o(std::move(options)) {
    for (const std::vector<double>& g : o.groups) {
        const double median = quantile(g, 0.5);
        summaries_.push_back({quantile(g, 0.05), quantile(g, 0.25), median, quantile(g, 0.75),
                              quantile(g, 0.95), mean_of(g), std::isnan(median)});
    }
}

void Boxes::extend(Limits& limits) const {
    for (size_t i = 0; i < o.groups.size(); ++i) {
        if (summaries_[i].empty) continue;
        for (const double v : o.groups[i]) limits.include_y(v);
        limits.include_x(static_cast<double>(i));
    }
    if (!o.groups.empty() && limits.x0 <= limits.x1) {
        limits.include_x(-0.5);
        limits.include_x(static_cast<double>(o.groups.size()) - 0.5);
    }
    limits.tight_x = true;
}

void Boxes::draw_box(Canvas& canvas, const Transform& to_points, size_t i) const {
    const Summary& s = summaries_[i];
    const double x = static_cast<double>(i), middle = to_points.x(x);
    const double left = to_points.x(x - o.width / 2), right = to_points.x(x + o.width / 2);
    const double top = to_points.y(s.p75), bottom = to_points.y(s.p25), cap = (right - left) / 4;
    canvas.vertical_line(middle, to_points.y(s.p95), top, 1, colors::ink);
    canvas.vertical_line(middle, bottom, to_points.y(s.p5), 1, colors::ink);
    for (const double v : {s.p5, s.p95})
        canvas.horizontal_line(middle - cap, middle + cap, to_points.y(v), 1, colors::ink);
    canvas.fill_rect({left, top, right, bottom}, o.color->mixed(colors::white, 0.55).with_alpha(0.85));
    const Point frame[] = {{left, top}, {right, top}, {right, bottom}, {left, bottom}, {left, top}};
    canvas.stroke(frame, 1, o.color->mixed(colors::black, 0.3));
    canvas.horizontal_line(left, right, to_points.y(s.median), 1.5, colors::ink);
    canvas.fill_circle({middle, to_points.y(s.mean)}, 3.6, colors::white);
    canvas.fill_circle({middle, to_points.y(s.mean)}, 2.6, colors::ink);
}

void Boxes::draw(Canvas& canvas, const Transform& to_points) const {
    for (size_t i = 0; i < o.groups.size(); ++i) {
        if (summaries_[i].empty) continue;
        const std::vector<double>& g = o.groups[i];
        // Golden-ratio offsets spread the dots evenly without a random number.
        for (size_t j = 0; o.show_samples && g.size() <= 400 && j < g.size(); ++j) {
            const double spread = std::fmod(static_cast<double>(j) * std::numbers::phi, 1.0) - 0.5;
            canvas.fill_circle(to_points(static_cast<double>(i) + 0.8 * o.width * spread, g[j]), 1.3,
                               o.color->with_alpha(0.3));
        }
        draw_box(canvas, to_points, i);
    }
}

void Boxes::occupied(const Transform& to_points, std::vector<Point>& points) const {
    for (size_t i = 0; i < o.groups.size(); ++i)
        for (const double v : o.groups[i]) points.push_back(to_points(static_cast<double>(i), v));
}

// ---- Rule

void Rule::extend(Limits& limits) const {
    if (!o.counts) return;
    if (o.vertical)
        limits.include_x(o.at);
    else
        limits.include_y(o.at);
}

void Rule::draw(Canvas& canvas, const Transform& to_points) const {
    const Rect& r = to_points.plot;
    const double at = o.vertical ? to_points.x(o.at) : to_points.y(o.at);
    if (!std::isfinite(at)) return;
    const Point ends[] = {o.vertical ? Point{at, r.y1} : Point{r.x0, at},
                          o.vertical ? Point{at, r.y0} : Point{r.x1, at}};
    if (o.dashes.empty())
        canvas.stroke(ends, 1, o.color);
    else
        canvas.stroke_dashed(ends, 1, o.color, o.dashes);
}

void Rule::draw_labels(Canvas& canvas, const Transform& to_points) const {
    const Rect& r = to_points.plot;
    const double at = o.vertical ? to_points.x(o.at) : to_points.y(o.at);
    const Point anchor = o.vertical ? Point{at, r.y0 + 5} : Point{r.x1 - 5, at};
    if (o.label.empty() || !std::isfinite(at) || !r.expanded(0.5).contains(anchor)) return;
    TextStyle style{.size = 8.5, .color = o.color.mixed(colors::black, 0.25), .halo = colors::white};
    if (o.vertical) {
        const bool fits_right = at + 4 + measure_text(o.label, style.size).width < r.x1;
        style.h = fits_right ? HAlign::left : HAlign::right;
        style.v = VAlign::top;
        draw_text(canvas, {fits_right ? at + 4 : at - 4, anchor.y}, o.label, style);
    } else {
        const bool below = o.label_below || at - 14 < r.y0;
        style.h = HAlign::right;
        style.v = below ? VAlign::top : VAlign::bottom;
        draw_text(canvas, {anchor.x, below ? at + 2 : at - 2}, o.label, style);
    }
}

}  // namespace sieve::plot
