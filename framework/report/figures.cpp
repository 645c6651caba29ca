// The curves and bars of a results folder, drawn from the numbers in its JSON files.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "framework/plot/figure.h"
#include "framework/report/results.h"
#include "framework/train/evaluate.h"

namespace sieve {
namespace {

using plot::Axes;
using plot::Figure;
using Doubles = std::vector<double>;

constexpr plot::Color classic_color = plot::colors::blue;
constexpr plot::Color sparse_color = plot::colors::orange;

Doubles as_doubles(const std::vector<int64_t>& values) {
    return {values.begin(), values.end()};
}

Doubles one_to(size_t n) {
    Doubles steps(n);
    std::iota(steps.begin(), steps.end(), 1.0);
    return steps;
}

Doubles times(Doubles values, double factor) {
    for (double& v : values) v *= factor;
    return values;
}

// Mean over the neighbourhood of each value: the raw loss of a step is too noisy to read.
Doubles smoothed(const Doubles& values, size_t reach) {
    Doubles sums(values.size() + 1, 0.0), means(values.size());
    for (size_t i = 0; i < values.size(); ++i) sums[i + 1] = sums[i] + values[i];
    for (size_t i = 0; i < values.size(); ++i) {
        const size_t span = std::min({reach, i, values.size() - 1 - i});
        means[i] = (sums[i + span + 1] - sums[i - span]) / static_cast<double>(2 * span + 1);
    }
    return means;
}

void label(Axes& axes, const std::string& title, const std::string& x, const std::string& y) {
    axes.title = title;
    axes.x.label = x;
    axes.y.label = y;
    axes.x.integers = true;  // steps, or the places of bars
}

void draw_loss(Axes& axes, const TrainingHistory& h) {
    label(axes, "Loss", "step", "nats per token");
    const Doubles steps = one_to(h["step_loss"].size());
    axes.line({.x = steps, .y = h["step_loss"], .color = classic_color, .width = 0.8, .alpha = 0.25});
    axes.line({.x = steps,
               .y = smoothed(h["step_loss"], 25),
               .label = "train (mean of 50 steps)",
               .color = classic_color});
    axes.line({.x = as_doubles(h.steps),
               .y = h["val_loss"],
               .label = "validation",
               .color = sparse_color,
               .marker = 4});
}

void draw_series(Axes& axes, const std::string& title, const std::string& unit, const TrainingHistory& h,
                 const Doubles& values) {
    label(axes, title, "step", unit);
    axes.line({.x = as_doubles(h.steps), .y = values, .marker = 4});
}

// A few layers are told apart by the palette, more by their depth, a shade each; then the legend names only
// some of them, the last among them.
struct LayerStyle {
    static constexpr size_t few = 8, named = 5;
    size_t layers;

    std::string label(size_t layer) const {
        const size_t stride = layers <= few ? 1 : (layers + named - 2) / (named - 1);
        const bool shown = layer + 1 == layers || (layer % stride == 0 && layer + stride / 2 < layers);
        return shown ? fmt::format("layer {}", layer) : "";
    }
    plot::Color color(size_t layer) const {
        if (layers <= few) return plot::palette(layer);
        static const plot::ColorMap depths = plot::ColorMap::viridis();
        return depths.at(static_cast<double>(layer) / static_cast<double>(layers - 1));
    }
};

void draw_layers(Axes& axes, const std::string& title, const TrainingHistory& h,
                 const std::vector<Doubles>& by_evaluation, const Doubles& mean) {
    label(axes, title, "step", "share");
    const LayerStyle style{by_evaluation.empty() ? 0 : by_evaluation.front().size()};
    for (size_t l = 0; l < style.layers; ++l) {
        Doubles values;
        for (const Doubles& evaluation : by_evaluation) values.push_back(evaluation[l]);
        axes.line({.x = as_doubles(h.steps),
                   .y = values,
                   .label = style.label(l),
                   .color = style.color(l),
                   .width = 1,
                   .alpha = 0.7});
    }
    axes.line(
        {.x = as_doubles(h.steps), .y = mean, .label = "mean", .color = plot::colors::black, .width = 2});
}

// What chance or an oracle gives, the mean over layers; nothing in results that did not measure it.
void draw_beside(Axes& axes, const TrainingHistory& h, const char* name, std::vector<double> dashes) {
    const std::optional<MetricKey> beside = metric_named(name);
    if (!beside || h[*beside].empty()) return;
    axes.line({.x = as_doubles(h.steps),
               .y = h[*beside],
               .label = (*beside)->title,
               .color = plot::colors::ink,
               .width = 1.2,
               .dashes = std::move(dashes)});
}

// A metric by layer, between chance and oracle.
void draw_layers(Axes& axes, const std::string& title, const TrainingHistory& h, MetricKey metric) {
    draw_layers(axes, title, h, h.layers(metric), h[metric]);
    draw_beside(axes, h, metric->chance, {4, 3});
    draw_beside(axes, h, metric->oracle, {1.5, 2});
}

void draw_alignment(Axes& axes, const TrainingHistory& h, IndexerWarmup warmup) {
    label(axes, "Alignment loss of the indexer", "step (warm-up before 0)", "KL, nats");
    Doubles warmup_steps = one_to(h["warmup_loss"].size());
    for (double& s : warmup_steps) s -= static_cast<double>(h["warmup_loss"].size());
    const char* warmup_label =
        warmup == IndexerWarmup::entropy ? "warm-up (to the uniform distribution)" : "warm-up (dense)";
    axes.line({.x = warmup_steps, .y = h["warmup_loss"], .label = warmup_label});
    axes.line(
        {.x = as_doubles(h.steps), .y = h["indexer_kl"], .label = "sparse stage (validation)", .marker = 4});
}

}  // namespace

void write_training_curves(const std::string& path, const TrainingHistory& h,
                           const ExperimentConfig& config) {
    const bool sparse = config.model.is_sparse();
    Figure figure(2, sparse ? 3 : 2, {sparse ? 1150.0 : 800.0, 600});
    figure.title = fmt::format("{} model, {} preset, {} data", sparse ? "Sparse" : "Classic", config.preset,
                               name_of(config.protocol));
    draw_loss(figure.at(0, 0), h);
    draw_series(figure.at(0, 1), "Validation accuracy", "%", h, times(h["val_accuracy"], 100));
    draw_series(figure.at(1, 0), "Validation perplexity", "perplexity (log scale)", h, h["val_perplexity"]);
    figure.at(1, 0).y.scale = plot::Scale::log10;
    draw_series(figure.at(1, 1), "Learning rate", "", h, h["learning_rate"]);
    if (sparse) {
        draw_alignment(figure.at(0, 2), h, config.indexer_warmup);
        const Sparsity s = sparsity_of(config.model);
        draw_layers(figure.at(1, 2),
                    fmt::format("Covered attention mass (sparsity {:.1f} %)", 100 * s.causal), h,
                    "indexer_covered_mass");
    }
    figure.save(path);
}

namespace {

void draw_both(Axes& axes, const std::string& title, const std::string& unit, const TrainingHistory& classic,
               const Doubles& classic_values, const TrainingHistory& sparse, const Doubles& sparse_values) {
    label(axes, title, "step", unit);
    axes.line({.x = as_doubles(classic.steps),
               .y = classic_values,
               .label = "classic",
               .color = classic_color,
               .marker = 3.5});
    axes.line({.x = as_doubles(sparse.steps),
               .y = sparse_values,
               .label = "sparse",
               .color = sparse_color,
               .marker = 3.5});
}

void draw_bars(Axes& axes, const std::string& title, const std::string& unit, double classic, double sparse,
               const std::string& ratio) {
    label(axes, title, "", unit);
    axes.bars({.values = {classic, sparse},
               .value_labels = {fmt::format("{:.0f}", classic), fmt::format("{:.0f}", sparse)},
               .colors = {classic_color, sparse_color}},
              {"classic", "sparse"});
    axes.ratio_bracket(0, 1, ratio);
}

}  // namespace

void write_performance_comparison(const std::string& path, const TrainingHistory& classic,
                                  const TrainingHistory& sparse) {
    Figure figure(2, 3, {1150, 600});
    figure.title = "Classic against sparse attention";
    draw_both(figure.at(0, 0), "Validation loss", "nats per token", classic, classic["val_loss"], sparse,
              sparse["val_loss"]);
    draw_both(figure.at(0, 1), "Validation accuracy", "%", classic, times(classic["val_accuracy"], 100),
              sparse, times(sparse["val_accuracy"], 100));
    draw_both(figure.at(0, 2), "Validation perplexity", "perplexity (log scale)", classic,
              classic["val_perplexity"], sparse, sparse["val_perplexity"]);
    figure.at(0, 2).y.scale = plot::Scale::log10;
    draw_both(figure.at(1, 0), "Time per step", "ms", classic, times(classic["time_per_step"], 1e3), sparse,
              times(sparse["time_per_step"], 1e3));
    const double classic_ms = 1e3 * typical_step_seconds(classic),
                 sparse_ms = 1e3 * typical_step_seconds(sparse);
    draw_bars(figure.at(1, 1), "Median time per step", "ms", classic_ms, sparse_ms,
              fmt::format("sparse / classic = {:.2f}", sparse_ms / classic_ms));
    const double classic_mib = static_cast<double>(classic.peak_memory_bytes) / (1 << 20);
    const double sparse_mib = static_cast<double>(sparse.peak_memory_bytes) / (1 << 20);
    draw_bars(figure.at(1, 2), "Peak tensor memory", "MiB", classic_mib, sparse_mib,
              fmt::format("sparse / classic = {:.2f}", sparse_mib / classic_mib));
    figure.save(path);
}

}  // namespace sieve
