// What can stand in a pair of axes. Each artist knows the range of its data, draws itself, and tells the
// legend what it looks like and which places to keep clear.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "framework/plot/canvas.h"
#include "framework/plot/text.h"

namespace sieve::plot {

enum class Scale { linear, log2, log10 };

// Data to points. low may be above high: then the axis runs the other way.
struct AxisMap {
    Scale scale = Scale::linear;
    double low = 0, high = 1;   // data
    double begin = 0, end = 1;  // points
    double operator()(double value) const;
};

struct Transform {
    AxisMap x, y;
    Rect plot;
    Point operator()(double px, double py) const { return {x(px), y(py)}; }
};

// The ranges of the data; values that are not finite, or not positive on a log scale, do not count.
struct Limits {
    Scale x_scale = Scale::linear, y_scale = Scale::linear;
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
    bool tight_x = false, tight_y = false;  // no margin beside the data
    bool from_zero = false;                 // the y axis begins at 0 (linear scale)
    double headroom = 0;                    // share of the height kept free above, for labels

    void include_x(double v);
    void include_y(double v);
    bool empty() const { return !(x0 <= x1 && y0 <= y1); }
};

struct LegendEntry {
    enum class Kind { line, patch, marker, line_with_marker } kind = Kind::line;
    std::string label;
    Color color;
    double width = 1.5;
    std::vector<double> dashes;
};

class Artist {
  public:
    virtual ~Artist() = default;
    virtual void extend(Limits&) const {}
    virtual void draw(Canvas& canvas, const Transform& to_points) const = 0;
    // Drawn after everything else, not clipped to the axes.
    virtual void draw_labels(Canvas&, const Transform&) const {}
    virtual void occupied(const Transform&, std::vector<Point>&) const {}
    virtual std::optional<LegendEntry> legend() const { return std::nullopt; }
};

// y against x, broken where either is not finite. low and high (optional, as long as x): a shaded band.
// errors (optional): an error bar from y - error to y + error at each point that has one above 0.
struct Line : Artist {
    struct Options {
        std::vector<double> x, y;
        std::string label;
        std::optional<Color> color = {};
        double width = 1.6;
        double alpha = 1;
        std::vector<double> dashes = {};
        double marker = 0;  // diameter; 0: none
        std::vector<double> low = {}, high = {};
        std::vector<double> errors = {};
    } o;
    explicit Line(Options options) : o(std::move(options)) {}
    void extend(Limits& limits) const override;
    void draw(Canvas& canvas, const Transform& to_points) const override;
    void occupied(const Transform& to_points, std::vector<Point>& points) const override;
    std::optional<LegendEntry> legend() const override;
};

struct Scatter : Artist {
    struct Options {
        std::vector<double> x, y;
        std::string label;
        std::optional<Color> color = {};
        double size = 4;  // diameter
        double alpha = 0.7;
    } o;
    explicit Scatter(Options options) : o(std::move(options)) {}
    void extend(Limits& limits) const override;
    void draw(Canvas& canvas, const Transform& to_points) const override;
    void occupied(const Transform& to_points, std::vector<Point>& points) const override;
    std::optional<LegendEntry> legend() const override;
};

// One bar a value at x = 0, 1, ... (+ offset), with its value above and an error bar where one is given.
struct Bars : Artist {
    struct Options {
        std::vector<double> values;
        std::vector<double> errors = {};
        std::vector<std::string> value_labels = {};  // empty: the numbers themselves
        std::vector<Color> colors = {};              // one for all, or one a bar
        std::string label;
        double offset = 0, width = 0.6;
    } o;
    explicit Bars(Options options) : o(std::move(options)) {}
    void extend(Limits& limits) const override;
    void draw(Canvas& canvas, const Transform& to_points) const override;
    void draw_labels(Canvas& canvas, const Transform& to_points) const override;
    void occupied(const Transform& to_points, std::vector<Point>& points) const override;
    std::optional<LegendEntry> legend() const override;
    // Where the bar and its error bar end; NaN when there is no such bar.
    double top(size_t i) const;
    // Numbers of one panel have as many decimals as the largest needs for three digits: 3.53 beside 3.60.
    std::string value_label(size_t i) const;
};

// A text between two bars, over a bracket at the height `y` (the taller of the two).
struct Bracket : Artist {
    double from, to, y;
    std::string text;
    Bracket(double from_x, double to_x, double height, std::string what)
        : from(from_x), to(to_x), y(height), text(std::move(what)) {}
    void extend(Limits& limits) const override;
    void draw(Canvas&, const Transform&) const override {}
    void draw_labels(Canvas& canvas, const Transform& to_points) const override;
};

// Heights over [edges[i], edges[i+1]): a histogram. filled: bars; otherwise an outline.
struct Steps : Artist {
    struct Options {
        std::vector<double> edges, heights;
        std::string label;
        std::optional<Color> color = {};
        bool filled = true;
    } o;
    explicit Steps(Options options) : o(std::move(options)) {}
    void extend(Limits& limits) const override;
    void draw(Canvas& canvas, const Transform& to_points) const override;
    void occupied(const Transform& to_points, std::vector<Point>& points) const override;
    std::optional<LegendEntry> legend() const override;
};

// One box a group at x = 0, 1, ...: quartiles and median, whiskers to the 5th and 95th percentile, a dot at
// the mean.
struct Boxes : Artist {
    struct Options {
        std::vector<std::vector<double>> groups;
        std::optional<Color> color = {};
        double width = 0.55;
        bool show_samples = true;  // a strip of faint dots, when there are few enough
    } o;
    explicit Boxes(Options options);
    void extend(Limits& limits) const override;
    void draw(Canvas& canvas, const Transform& to_points) const override;
    void occupied(const Transform& to_points, std::vector<Point>& points) const override;

  private:
    struct Summary {
        double p5, p25, median, p75, p95, mean;
        bool empty;
    };
    void draw_box(Canvas& canvas, const Transform& to_points, size_t i) const;
    std::vector<Summary> summaries_;
};

// A line across the whole plot with a label at its end.
struct Rule : Artist {
    struct Options {
        double at = 0;
        bool vertical = false;
        std::string label;
        Color color = colors::muted;
        std::vector<double> dashes = {4, 3};
        bool label_below = false;
        bool counts = false;  // whether the axes reach out for it
    } o;
    explicit Rule(Options options) : o(std::move(options)) {}
    void extend(Limits& limits) const override;
    void draw(Canvas& canvas, const Transform& to_points) const override;
    void draw_labels(Canvas& canvas, const Transform& to_points) const override;
};

// Quantile of the finite values, linear between ranks; NaN when there is none.
double quantile(std::vector<double> values, double share);
double mean_of(const std::vector<double>& values);  // of the finite values

}  // namespace sieve::plot
