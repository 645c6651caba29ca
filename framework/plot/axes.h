// One pair of axes: artists, scales, ticks, labels, a legend in the emptiest place, and annotations.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/plot/artists.h"
#include "framework/plot/heat_map.h"
#include "framework/plot/ticks.h"

namespace sieve::plot {

class Axes {
  public:
    struct Axis {
        std::string label;
        Scale scale = Scale::linear;
        std::optional<double> low, high;  // in place of the range of the data
        bool integers = false;            // ticks at whole numbers only
        std::vector<std::string> names;   // texts at 0, 1, 2, ... in place of numbers
        double names_angle = 0;           // 0 or 90; of the x axis
        double tick_size = 9;             // names are drawn smaller where they would overlap
    };

    std::string title;
    Axis x, y;
    bool grid = true;
    bool show_legend = true;

    // Lines, points and outlines without a colour get the next one of the palette.
    void line(Line::Options options);
    void scatter(Scatter::Options options);
    // names: below the bars, in place of the numbers 0, 1, ...
    void bars(Bars::Options options, std::vector<std::string> names);
    // Over the bars i and j of one `bars` call made before.
    void ratio_bracket(size_t i, size_t j, const std::string& text);
    // Share of the values in each of `bins` equal bins over [low, high]; the last bin holds its upper end.
    void histogram(const std::vector<double>& values, double low, double high, int bins,
                   Steps::Options style);
    void boxes(Boxes::Options options, std::vector<std::string> names);
    void heat_map(HeatMap::Options options);
    void hline(double at, const std::string& label, Color color = colors::muted, bool counts = false,
               bool label_below = false);
    void vline(double at, const std::string& label, Color color = colors::muted);
    // A remark in the middle of axes without data, in place of "no data".
    void no_data_text(const std::string& text) { no_data_text_ = text; }

    // Space for everything around a plot area of this size.
    Insets insets(Size plot) const;
    void draw(Canvas& canvas, Rect plot) const;

    bool has_data() const;
    // Of a plot area (after any change for square cells). The y axis reaches higher where that lets the
    // legend stand clear of the data.
    Transform transform(const Rect& plot) const;

  private:
    struct Layout;
    Layout layout(Rect plot) const;
    Ticks ticks_of(const Axis& axis, double low, double high, double length, bool horizontal) const;
    Rect plot_area(Rect plot) const;  // square when it holds a heat map
    Transform transform_with(const Rect& plot, double headroom) const;
    std::vector<LegendEntry> legend_entries() const;
    Size legend_extent(const std::vector<LegendEntry>& entries) const;
    std::vector<Point> occupied(const Transform& to_points) const;
    void draw_grid_and_frame(Canvas& canvas, const Layout& l) const;
    void draw_tick_labels(Canvas& canvas, const Layout& l) const;
    void draw_titles(Canvas& canvas, const Layout& l) const;
    void draw_legend(Canvas& canvas, const Layout& l) const;
    Color next_color() { return palette(colors_used_++); }

    std::vector<std::unique_ptr<Artist>> artists_;
    const HeatMap* heat_map_ = nullptr;  // one of artists_
    const Bars* last_bars_ = nullptr;    // one of artists_
    size_t colors_used_ = 0;
    std::string no_data_text_ = "no data";
};

// The largest size, up to `wanted` and not below 3, at which neighbouring names do not touch.
// spacing: points from one name to the next; upright: names side by side, else rotated or above each other.
double fitted_name_size(const std::vector<std::string>& names, double spacing, bool upright, double wanted);

// Where a legend of this size covers the fewest points: a corner (upper right first), else along a side.
Rect place_legend(const Rect& plot, Size legend, std::span<const Point> occupied);

}  // namespace sieve::plot
