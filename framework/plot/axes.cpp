#include "framework/plot/axes.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "framework/core/error.h"

namespace sieve::plot {
namespace {

constexpr double tick_length = 3.5, tick_gap = 3.5, label_gap = 4;
constexpr double label_size = 10, title_size = 11, title_gap = 6, legend_size = 9;
constexpr double legend_handle = 20, legend_gap = 6, legend_padding = 5, legend_row = legend_size * 1.45;
constexpr double bar_gap = 8;  // between a heat map and its colour bar
constexpr double frame_width = 0.8;
constexpr double margin = 0.05;  // of the data's range, on either side

double widest(const Ticks& ticks, double size) {
    double width = 0;
    for (const std::string& label : ticks.labels) width = std::max(width, measure_text(label, size).width);
    return width;
}

Ticks name_ticks(const std::vector<std::string>& names, double low, double high) {
    Ticks ticks;
    for (size_t i = 0; i < names.size(); ++i) {
        const double at = static_cast<double>(i);
        if (at < std::min(low, high) || at > std::max(low, high)) continue;
        ticks.at.push_back(at);
        ticks.labels.push_back(names[i]);
    }
    return ticks;
}

Ticks number_ticks(const Axes::Axis& axis, double low, double high, int most) {
    if (axis.scale == Scale::linear)
        return linear_ticks(std::min(low, high), std::max(low, high), most, axis.integers);
    return log_ticks(low, high, axis.scale == Scale::log2 ? 2 : 10, most);
}

// The axis's range: what is set, else the data's with a margin beside it.
void axis_range(const Axes::Axis& axis, double& low, double& high, bool tight, bool from_zero,
                double headroom) {
    const double data_low = low, data_high = high;
    if (axis.scale == Scale::linear) {
        make_usable_range(low, high);
        const double by = tight ? 0 : margin * (high - low);
        low = from_zero && data_low >= 0 ? 0 : low - by;
        high += (high - low) * headroom + by;
        if (data_low == data_high && from_zero && data_low == 0) high = 1;
    } else {
        if (!(low > 0 && high < INFINITY)) low = 1, high = 10;
        if (high / low < 1.0001) low /= 1.5, high *= 1.5;
        const double by = std::pow(high / low, margin + headroom);
        low /= tight ? 1 : std::pow(high / low, margin);
        high *= tight ? 1 : by;
    }
    low = axis.low.value_or(low);
    high = axis.high.value_or(high);
    if (!(low < high) || (axis.scale != Scale::linear && low <= 0))
        fail(fmt::format("axes: range [{}, {}] of axis '{}' is empty or does not suit its scale", low, high,
                         axis.label));
}

void draw_legend_handle(Canvas& canvas, const LegendEntry& entry, double x, double y, double width) {
    const Point ends[] = {{x, y}, {x + width, y}};
    switch (entry.kind) {
        case LegendEntry::Kind::patch: {
            // The frame makes a white patch visible.
            canvas.fill_rect({x, y - 4, x + width, y + 4}, entry.color.mixed(colors::ink, 0.25));
            canvas.fill_rect({x + 0.7, y - 3.3, x + width - 0.7, y + 3.3}, entry.color);
            break;
        }
        case LegendEntry::Kind::marker:
            canvas.fill_circle({x + width / 2, y}, entry.width / 2, entry.color);
            break;
        case LegendEntry::Kind::line_with_marker:
            canvas.fill_circle({x + width / 2, y}, 2.5, entry.color);
            [[fallthrough]];
        case LegendEntry::Kind::line:
            if (entry.dashes.empty())
                canvas.stroke(ends, entry.width, entry.color);
            else
                canvas.stroke_dashed(ends, entry.width, entry.color, entry.dashes);
    }
}

size_t count_covered(const Rect& rect, std::span<const Point> points) {
    const Rect guarded = rect.expanded(3);
    return static_cast<size_t>(
        std::count_if(points.begin(), points.end(), [&](Point p) { return guarded.contains(p); }));
}

}  // namespace

struct Axes::Layout {
    Rect plot;
    Transform to_points;
    Ticks x, y;
    double x_size = 9, y_size = 9;  // of the tick labels
};

// ---- what is put in

void Axes::line(Line::Options options) {
    if (!options.color) options.color = next_color();
    artists_.push_back(std::make_unique<Line>(std::move(options)));
}

void Axes::scatter(Scatter::Options options) {
    if (!options.color) options.color = next_color();
    artists_.push_back(std::make_unique<Scatter>(std::move(options)));
}

void Axes::bars(Bars::Options options, std::vector<std::string> names) {
    auto bars = std::make_unique<Bars>(std::move(options));
    last_bars_ = bars.get();
    artists_.push_back(std::move(bars));
    x.names = std::move(names);
}

void Axes::ratio_bracket(size_t i, size_t j, const std::string& text) {
    if (last_bars_ == nullptr) fail("axes: ratio_bracket needs bars");
    const double height = std::max(last_bars_->top(i), last_bars_->top(j));
    artists_.push_back(std::make_unique<Bracket>(static_cast<double>(i) + last_bars_->o.offset,
                                                 static_cast<double>(j) + last_bars_->o.offset, height,
                                                 text));
}

void Axes::histogram(const std::vector<double>& values, double low, double high, int bins,
                     Steps::Options style) {
    if (bins < 1) fail(fmt::format("histogram: {} bins", bins));
    make_usable_range(low, high);
    std::vector<double> heights(static_cast<size_t>(bins), 0.0);
    double counted = 0;
    for (const double v : values) {
        if (!(v >= low && v <= high)) continue;
        const auto bin = static_cast<size_t>((v - low) / (high - low) * bins);
        heights[std::min(bin, heights.size() - 1)] += 1;
        counted += 1;
    }
    if (counted == 0) return;
    style.edges.clear();
    for (int i = 0; i <= bins; ++i) style.edges.push_back(low + (high - low) * i / bins);
    for (double& h : heights) h /= counted;
    style.heights = std::move(heights);
    if (!style.color) style.color = next_color();
    artists_.push_back(std::make_unique<Steps>(std::move(style)));
}

void Axes::boxes(Boxes::Options options, std::vector<std::string> names) {
    if (!options.color) options.color = next_color();
    artists_.push_back(std::make_unique<Boxes>(std::move(options)));
    x.names = std::move(names);
}

void Axes::heat_map(HeatMap::Options options) {
    auto map = std::make_unique<HeatMap>(std::move(options));
    heat_map_ = map.get();
    artists_.push_back(std::move(map));
    grid = false;
    x.integers = y.integers = true;
}

void Axes::hline(double at, const std::string& label, Color color, bool counts, bool label_below) {
    artists_.push_back(std::make_unique<Rule>(Rule::Options{
        .at = at, .label = label, .color = color, .label_below = label_below, .counts = counts}));
}

void Axes::vline(double at, const std::string& label, Color color) {
    artists_.push_back(
        std::make_unique<Rule>(Rule::Options{.at = at, .vertical = true, .label = label, .color = color}));
}

// ---- layout

bool Axes::has_data() const {
    Limits limits{.x_scale = x.scale, .y_scale = y.scale};
    for (const auto& artist : artists_) artist->extend(limits);
    return !limits.empty();
}

Rect Axes::plot_area(Rect plot) const {
    if (heat_map_ == nullptr || heat_map_->o.rows == 0 || heat_map_->o.columns == 0) return plot;
    const double aspect = static_cast<double>(heat_map_->o.columns) / static_cast<double>(heat_map_->o.rows);
    const double width = std::min(plot.width(), plot.height() * aspect), height = width / aspect;
    const double x0 = plot.x0 + (plot.width() - width) / 2, y0 = plot.y0 + (plot.height() - height) / 2;
    return {x0, y0, x0 + width, y0 + height};
}

Transform Axes::transform(const Rect& plot) const {
    const Transform plain = transform_with(plot, 0);
    const std::vector<LegendEntry> entries = legend_entries();
    if (!show_legend || entries.empty() || heat_map_ != nullptr || y.high || !has_data()) return plain;
    const Size extent = legend_extent(entries);
    for (const double headroom : {0.0, 0.08, 0.16, 0.24, 0.32, 0.4}) {
        const Transform t = transform_with(plot, headroom);
        const std::vector<Point> points = occupied(t);
        if (count_covered(place_legend(plot, extent, points), points) == 0) return t;
    }
    return plain;
}

Transform Axes::transform_with(const Rect& plot, double headroom) const {
    Limits limits{.x_scale = x.scale, .y_scale = y.scale};
    for (const auto& artist : artists_) artist->extend(limits);
    if (limits.empty()) {
        const double x_low = x.scale == Scale::linear ? 0 : 1, y_low = y.scale == Scale::linear ? 0 : 1;
        limits.x0 = x_low, limits.x1 = x_low + 1, limits.y0 = y_low, limits.y1 = y_low + 1;
    }
    axis_range(x, limits.x0, limits.x1, limits.tight_x, false, 0);
    axis_range(y, limits.y0, limits.y1, limits.tight_y, limits.from_zero, limits.headroom + headroom);
    Transform t{{x.scale, limits.x0, limits.x1, plot.x0, plot.x1},
                {y.scale, limits.y0, limits.y1, plot.y1, plot.y0},
                plot};
    if (heat_map_ != nullptr) std::swap(t.y.low, t.y.high);  // row 0 on top
    return t;
}

Ticks Axes::ticks_of(const Axis& axis, double low, double high, double length, bool horizontal) const {
    if (!axis.names.empty()) return name_ticks(axis.names, low, high);
    const double room_each = horizontal ? 36 : 26;
    int most = std::clamp(static_cast<int>(length / room_each), 3, 9);
    Ticks ticks = number_ticks(axis, low, high, most);
    const auto crowded = [&] {
        if (!horizontal || ticks.at.size() < 2) return false;
        return widest(ticks, axis.tick_size) + 8 > length / static_cast<double>(ticks.at.size());
    };
    while (most > 3 && crowded()) ticks = number_ticks(axis, low, high, --most);
    return ticks;
}

Axes::Layout Axes::layout(Rect plot) const {
    Layout l{.plot = plot_area(plot)};
    l.to_points = transform(l.plot);
    if (!has_data()) return l;
    l.x = ticks_of(x, l.to_points.x.low, l.to_points.x.high, l.plot.width(), true);
    l.y = ticks_of(y, l.to_points.y.low, l.to_points.y.high, l.plot.height(), false);
    const auto spacing = [](const AxisMap& map) {
        return std::abs((map.end - map.begin) / (map.high - map.low));
    };
    const bool upright = x.names_angle != 90;
    l.x_size = x.names.empty() ? x.tick_size
                               : fitted_name_size(x.names, spacing(l.to_points.x), upright, x.tick_size);
    l.y_size =
        y.names.empty() ? y.tick_size : fitted_name_size(y.names, spacing(l.to_points.y), false, y.tick_size);
    return l;
}

Insets Axes::insets(Size plot) const {
    const Layout l = layout({0, 0, plot.width, plot.height});
    Insets in;
    in.left = tick_length + tick_gap + widest(l.y, l.y_size);
    if (!y.label.empty()) in.left += label_gap + label_size;
    in.bottom = tick_length + tick_gap + (x.names_angle == 90 ? widest(l.x, l.x_size) : l.x_size);
    if (!x.label.empty()) in.bottom += label_gap + label_size;
    if (!title.empty()) in.top = title_gap + measure_text(title, title_size).height;
    if (!l.y.multiplier.empty()) in.top = std::max(in.top, 12 + (title.empty() ? 0 : in.top));
    in.right = 6;
    if (x.names.empty() && !l.x.labels.empty())
        in.right = std::max(in.right, measure_text(l.x.labels.back(), x.tick_size).width / 2);
    if (heat_map_ != nullptr && heat_map_->o.color_bar && heat_map_->has_values())
        in.right = bar_gap + heat_map_->color_bar_width() + 2;
    return in;
}

// ---- drawing

void Axes::draw_grid_and_frame(Canvas& canvas, const Layout& l) const {
    const Rect& r = l.plot;
    if (grid) {
        if (x.names.empty())
            for (const double v : l.x.at)
                canvas.vertical_line(l.to_points.x(v), r.y0, r.y1, 0.6, colors::grid);
        for (const double v : l.y.at) canvas.horizontal_line(r.x0, r.x1, l.to_points.y(v), 0.6, colors::grid);
    }
}

void Axes::draw_tick_labels(Canvas& canvas, const Layout& l) const {
    const Rect& r = l.plot;
    for (size_t i = 0; i < l.x.at.size(); ++i) {
        const double at = l.to_points.x(l.x.at[i]);
        canvas.vertical_line(at, r.y1, r.y1 + tick_length, frame_width, colors::ink);
        const Point anchor{at, r.y1 + tick_length + tick_gap};
        if (x.names_angle == 90)
            draw_text(canvas, anchor, l.x.labels[i],
                      {.size = l.x_size, .h = HAlign::right, .v = VAlign::center, .angle = 90});
        else
            draw_text(canvas, anchor, l.x.labels[i],
                      {.size = l.x_size, .h = HAlign::center, .v = VAlign::top});
    }
    for (size_t i = 0; i < l.y.at.size(); ++i) {
        const double at = l.to_points.y(l.y.at[i]);
        canvas.horizontal_line(r.x0 - tick_length, r.x0, at, frame_width, colors::ink);
        draw_text(canvas, {r.x0 - tick_length - tick_gap, at}, l.y.labels[i],
                  {.size = l.y_size, .h = HAlign::right, .v = VAlign::center});
    }
    for (const double v : l.x.minor) canvas.vertical_line(l.to_points.x(v), r.y1, r.y1 + 2, 0.6, colors::ink);
    for (const double v : l.y.minor)
        canvas.horizontal_line(r.x0 - 2, r.x0, l.to_points.y(v), 0.6, colors::ink);
}

void Axes::draw_titles(Canvas& canvas, const Layout& l) const {
    const Rect& r = l.plot;
    const double middle = r.center().x;
    double above = r.y0;
    if (!l.y.multiplier.empty()) {
        draw_text(canvas, {r.x0, r.y0 - 2}, l.y.multiplier, {.size = y.tick_size, .v = VAlign::bottom});
        above -= 12;
    }
    draw_text(canvas, {middle, above - title_gap}, title,
              {.size = title_size, .h = HAlign::center, .v = VAlign::bottom});
    const double tick_height = x.names_angle == 90 ? widest(l.x, l.x_size) : l.x_size;
    const double below = r.y1 + tick_length + tick_gap + tick_height + label_gap;
    const std::string times = l.x.multiplier.empty() ? "" : " (" + l.x.multiplier + ")";
    draw_text(canvas, {middle, below}, x.label + times,
              {.size = label_size, .h = HAlign::center, .v = VAlign::top});
    const double left = r.x0 - tick_length - tick_gap - widest(l.y, l.y_size) - label_gap;
    draw_text(canvas, {left, r.center().y}, y.label,
              {.size = label_size, .h = HAlign::center, .v = VAlign::bottom, .angle = 90});
}

std::vector<LegendEntry> Axes::legend_entries() const {
    std::vector<LegendEntry> entries;
    for (const auto& artist : artists_)
        if (auto entry = artist->legend()) entries.push_back(std::move(*entry));
    if (heat_map_ != nullptr)
        for (const auto& [label, color] : heat_map_->o.key)
            entries.push_back({LegendEntry::Kind::patch, label, color, 1, {}});
    return entries;
}

Size Axes::legend_extent(const std::vector<LegendEntry>& entries) const {
    double text = 0;
    for (const LegendEntry& e : entries) text = std::max(text, measure_text(e.label, legend_size).width);
    return {2 * legend_padding + legend_handle + legend_gap + text,
            2 * legend_padding + legend_row * static_cast<double>(entries.size())};
}

std::vector<Point> Axes::occupied(const Transform& to_points) const {
    std::vector<Point> points;
    for (const auto& artist : artists_) artist->occupied(to_points, points);
    return points;
}

void Axes::draw_legend(Canvas& canvas, const Layout& l) const {
    const std::vector<LegendEntry> entries = legend_entries();
    if (!show_legend || entries.empty()) return;
    const Size size = legend_extent(entries);
    const std::vector<Point> points = occupied(l.to_points);
    const Rect box = place_legend(l.plot, size, points);
    canvas.fill_rounded_rect(box, 3, Color::hex(0xcccccc));
    canvas.fill_rounded_rect(box.expanded(-0.7), 2.4, colors::white);
    double row_y = box.y0 + legend_padding + legend_row / 2;
    for (const LegendEntry& e : entries) {
        draw_legend_handle(canvas, e, box.x0 + legend_padding, row_y, legend_handle);
        draw_text(canvas, {box.x0 + legend_padding + legend_handle + legend_gap, row_y}, e.label,
                  {.size = legend_size, .v = VAlign::center});
        row_y += legend_row;
    }
}

void Axes::draw(Canvas& canvas, Rect plot) const {
    const Layout l = layout(plot);
    const Rect& r = l.plot;
    if (!has_data()) {
        draw_text(canvas, r.center(), no_data_text_,
                  {.size = label_size, .color = colors::muted, .h = HAlign::center, .v = VAlign::center});
    } else {
        draw_grid_and_frame(canvas, l);
        canvas.set_clip(r);
        for (const auto& artist : artists_) artist->draw(canvas, l.to_points);
        canvas.clear_clip();
    }
    for (const double y_at : {r.y0, r.y1}) canvas.horizontal_line(r.x0, r.x1, y_at, frame_width, colors::ink);
    for (const double x_at : {r.x0, r.x1}) canvas.vertical_line(x_at, r.y0, r.y1, frame_width, colors::ink);
    draw_tick_labels(canvas, l);
    draw_titles(canvas, l);
    if (!has_data()) return;
    for (const auto& artist : artists_) artist->draw_labels(canvas, l.to_points);
    draw_legend(canvas, l);
    if (heat_map_ != nullptr && heat_map_->o.color_bar) {
        // Pointed ends, where values lie beyond the colours, need their own room.
        const double ends = heat_map_->clips_low() || heat_map_->clips_high() ? 10 : 0;
        heat_map_->draw_color_bar(canvas, {r.x1 + bar_gap, r.y0 + ends, r.x1 + bar_gap + 10, r.y1 - ends});
    }
}

double fitted_name_size(const std::vector<std::string>& names, double spacing, bool upright, double wanted) {
    double size = wanted;
    if (!upright) size = std::min(size, 0.98 * spacing);
    for (const std::string& name : names)
        if (upright)
            size = std::min(size, wanted * 0.92 * spacing / std::max(1.0, measure_text(name, wanted).width));
    return std::max(3.0, size);
}

Rect place_legend(const Rect& plot, Size legend, std::span<const Point> occupied) {
    constexpr double gap = 6;
    const double left = plot.x0 + gap, right = plot.x1 - gap - legend.width;
    const double top = plot.y0 + gap, bottom = plot.y1 - gap - legend.height;
    const double middle = plot.center().x - legend.width / 2;
    std::vector<Point> candidates = {{right, top}, {left, top}, {left, bottom}, {right, bottom}};
    constexpr int heights = 8;
    for (const int i : {4, 3, 5, 2, 6, 1, 7})
        for (const double x : {right, left}) candidates.push_back({x, top + (bottom - top) * i / heights});
    candidates.insert(candidates.end(), {{middle, top}, {middle, bottom}});
    Rect best;
    size_t fewest = std::numeric_limits<size_t>::max();
    for (const Point c : candidates) {
        const Rect rect{c.x, c.y, c.x + legend.width, c.y + legend.height};
        const size_t covered = count_covered(rect, occupied);
        if (covered >= fewest) continue;
        fewest = covered;
        best = rect;
    }
    return best;
}

}  // namespace sieve::plot
