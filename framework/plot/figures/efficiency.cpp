#include "framework/plot/figures/efficiency.h"

#include <fmt/format.h>

#include <cmath>

#include "framework/core/error.h"

namespace sieve::plot {
namespace {

constexpr Color classic_color = colors::blue, sparse_color = colors::orange;

void check(const Efficiency& e) {
    const auto one = [&](const char* name, const std::vector<double>& series) {
        if (!series.empty() && series.size() != e.lengths.size())
            fail(fmt::format("efficiency: {} has {} values, want {}, one a length", name, series.size(),
                             e.lengths.size()));
    };
    one("classic_seconds", e.classic_seconds);
    one("sparse_seconds", e.sparse_seconds);
    one("classic_seconds_sd", e.classic_seconds_sd);
    one("sparse_seconds_sd", e.sparse_seconds_sd);
    one("bound", e.bound);
    one("classic_peak_bytes", e.classic_peak_bytes);
    one("sparse_peak_bytes", e.sparse_peak_bytes);
}

void add_curve(Axes& axes, const Efficiency& e, const std::vector<double>& values,
               const std::vector<double>& sd, double factor, const char* label, Color color) {
    Line::Options line{.x = e.lengths, .y = values, .label = label, .color = color, .marker = 5};
    for (double& v : line.y) v *= factor;
    for (size_t i = 0; i < sd.size() && i < values.size(); ++i) {
        line.low.push_back(factor * (values[i] - sd[i]));
        line.high.push_back(factor * (values[i] + sd[i]));
    }
    if (!values.empty()) axes.line(std::move(line));
}

std::vector<double> speedup(const Efficiency& e) {
    if (e.classic_seconds.empty() || e.sparse_seconds.empty()) return {};
    std::vector<double> out;
    for (size_t i = 0; i < e.lengths.size(); ++i)
        out.push_back(e.sparse_seconds[i] > 0 ? e.classic_seconds[i] / e.sparse_seconds[i] : NAN);
    return out;
}

void draw_speedup(Axes& axes, const Efficiency& e) {
    axes.title = "Speed-up of sparse over classic";
    axes.y.label = "classic time / sparse time";
    add_curve(axes, e, speedup(e), {}, 1, "measured", colors::green);
    if (!e.bound.empty())
        axes.line({.x = e.lengths,
                   .y = e.bound,
                   .label = "bound by FLOPs",
                   .color = colors::ink,
                   .width = 1.3,
                   .dashes = {4, 3}});
    if (axes.has_data()) axes.hline(1, "equal", colors::muted, true);
}

}  // namespace

Figure efficiency_figure(const Efficiency& e) {
    check(e);
    Figure figure(1, 3, {1020, 330});
    figure.title = e.title;
    for (int i = 0; i < 3; ++i) {
        figure.at(0, i).x.label = "sequence length";
        figure.at(0, i).x.scale = Scale::log2;
    }
    Axes &time = figure.at(0, 0), &memory = figure.at(0, 2);
    time.title = "Time per step";
    time.y.label = "ms (log scale)";
    time.y.scale = Scale::log10;
    add_curve(time, e, e.classic_seconds, e.classic_seconds_sd, 1e3, "classic", classic_color);
    add_curve(time, e, e.sparse_seconds, e.sparse_seconds_sd, 1e3, "sparse", sparse_color);
    draw_speedup(figure.at(0, 1), e);
    memory.title = "Peak tensor memory";
    memory.y.label = "MiB (log scale)";
    memory.y.scale = Scale::log10;
    constexpr double mebibyte = 1 << 20;
    add_curve(memory, e, e.classic_peak_bytes, {}, 1 / mebibyte, "classic", classic_color);
    add_curve(memory, e, e.sparse_peak_bytes, {}, 1 / mebibyte, "sparse", sparse_color);
    return figure;
}

}  // namespace sieve::plot
