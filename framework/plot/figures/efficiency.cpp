#include "framework/plot/figures/efficiency.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "framework/core/error.h"

namespace sieve::plot {
namespace {

using Stage = Efficiency::Stage;
using Variant = Efficiency::Variant;
using Kind = Efficiency::Kind;

const char* label_of(Kind kind) {
    if (kind == Kind::classic) return "classic";
    return kind == Kind::sparse ? "sparse" : "classic, T x T stored";
}

Color color_of(Kind kind) {
    if (kind == Kind::classic) return colors::blue;
    return kind == Kind::sparse ? colors::orange : colors::muted;
}

void check(const Efficiency& e) {
    const auto one = [&](const char* name, const std::vector<double>& series) {
        if (!series.empty() && series.size() != e.lengths.size())
            fail(fmt::format("efficiency: {} has {} values, want {}, one a length", name, series.size(),
                             e.lengths.size()));
    };
    for (const Stage& stage : e.stages) {
        one("bound", stage.bound);
        for (const Variant& v : stage.variants) {
            one("seconds", v.seconds);
            one("low", v.low);
            one("high", v.high);
            one("peak_bytes", v.peak_bytes);
        }
    }
}

std::vector<double> scaled(std::vector<double> values, double factor) {
    for (double& v : values) v *= factor;
    return values;
}

void draw_seconds(Axes& axes, const Efficiency& e, const Stage& stage) {
    axes.title = stage.name;
    axes.y.label = "ms per step (log scale)";
    axes.y.scale = Scale::log10;
    for (const Variant& v : stage.variants)
        if (!v.seconds.empty())
            axes.line({.x = e.lengths,
                       .y = scaled(v.seconds, 1e3),
                       .label = label_of(v.kind),
                       .color = color_of(v.kind),
                       .marker = 5,
                       .low = scaled(v.low, 1e3),
                       .high = scaled(v.high, 1e3)});
}

void draw_memory(Axes& axes, const Efficiency& e, const Stage& stage) {
    constexpr double mebibyte = 1 << 20;
    axes.title = "Peak tensor memory";
    axes.y.label = "MiB (log scale)";
    axes.y.scale = Scale::log10;
    for (const Variant& v : stage.variants)
        if (!v.peak_bytes.empty())
            axes.line({.x = e.lengths,
                       .y = scaled(v.peak_bytes, 1 / mebibyte),
                       .label = label_of(v.kind),
                       .color = color_of(v.kind),
                       .marker = 5});
}

const Variant* find(const Stage& stage, Kind kind) {
    const auto v = std::find_if(stage.variants.begin(), stage.variants.end(), [&](const Variant& candidate) {
        return candidate.kind == kind && !candidate.seconds.empty();
    });
    return v == stage.variants.end() ? nullptr : &*v;
}

void draw_speedup(Axes& axes, const Efficiency& e, const Stage& stage) {
    axes.title = "Speed-up of sparse attention";
    axes.y.label = "time / time of sparse";
    const Variant* sparse = find(stage, Kind::sparse);
    for (const Kind kind : {Kind::materialised, Kind::classic}) {
        const Variant* dense = find(stage, kind);
        if (!dense || !sparse) continue;
        std::vector<double> ratio;
        for (size_t i = 0; i < e.lengths.size(); ++i)
            ratio.push_back(sparse->seconds[i] > 0 ? dense->seconds[i] / sparse->seconds[i] : NAN);
        axes.line({.x = e.lengths,
                   .y = std::move(ratio),
                   .label = std::string("over ") + label_of(kind),
                   .color = color_of(kind),
                   .marker = 5});
    }
    if (!stage.bound.empty())
        axes.line({.x = e.lengths,
                   .y = stage.bound,
                   .label = "bound by FLOPs",
                   .color = colors::ink,
                   .width = 1.3,
                   .dashes = {4, 3}});
    if (axes.has_data()) axes.hline(1, "equal", colors::muted, true);
}

}  // namespace

Figure efficiency_figure(const Efficiency& e) {
    check(e);
    const int rows = std::max(1, static_cast<int>(e.stages.size()));
    Figure figure(rows, 3, {1080, 40 + 300.0 * rows});
    figure.title = e.title;
    for (int row = 0; row < rows; ++row) {
        for (int column = 0; column < 3; ++column) {
            figure.at(row, column).x.label = "sequence length";
            figure.at(row, column).x.scale = Scale::log2;
        }
        if (row >= static_cast<int>(e.stages.size())) continue;
        const Stage& stage = e.stages[static_cast<size_t>(row)];
        draw_seconds(figure.at(row, 0), e, stage);
        draw_speedup(figure.at(row, 1), e, stage);
        draw_memory(figure.at(row, 2), e, stage);
    }
    return figure;
}

}  // namespace sieve::plot
