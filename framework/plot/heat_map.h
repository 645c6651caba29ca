// A matrix as coloured cells, row 0 on top.
#pragma once

#include <string>
#include <vector>

#include "framework/plot/artists.h"

namespace sieve::plot {

enum class Norm { linear, square_root };  // square_root: shows small values beside a few large ones

struct HeatMap : Artist {
    struct Options {
        int64_t rows = 0, columns = 0;
        std::vector<double> values;  // [rows * columns]; what is not finite is hatched grey
        ColorMap map = ColorMap::viridis();
        Norm norm = Norm::linear;
        // NaN: the smallest and largest finite value. Values outside get the end colours.
        double low = NAN, high = NAN;
        std::optional<Color> under = {};  // for values below `low`, in place of the end colour
        bool color_bar = true;
        std::string bar_label;
        std::vector<std::pair<std::string, Color>> key = {};  // named colours, shown as a legend
    } o;

    // Throws unless values has rows * columns elements.
    explicit HeatMap(Options options);
    void extend(Limits& limits) const override;
    // Where a pixel holds several cells it shows the mean of their values, or blank when most are blank.
    void draw(Canvas& canvas, const Transform& to_points) const override;
    void occupied(const Transform& to_points, std::vector<Point>& points) const override;

    bool has_values() const { return has_values_; }
    double low() const { return low_; }
    double high() const { return high_; }
    Color color_of(double value) const;            // of a finite value
    double share_of(double value) const;           // its place on the colour bar, unclamped
    bool clips_low() const { return clips_low_; }  // values lie below low, and `under` is not set
    bool clips_high() const { return clips_high_; }

    // The bar with its ticks and label inside `bar` and to its right.
    void draw_color_bar(Canvas& canvas, const Rect& bar) const;
    double color_bar_width() const;  // bar, ticks and label

  private:
    double cell_mean(int64_t r0, int64_t r1, int64_t c0, int64_t c1) const;

    double low_ = 0, high_ = 1;
    bool has_values_ = false, clips_low_ = false, clips_high_ = false;
};

}  // namespace sieve::plot
