// The pictures of a results folder, drawn from the numbers in its JSON files and from attention patterns.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "framework/io/json_file.h"
#include "framework/plot/figure.h"
#include "framework/train/inspect.h"
#include "framework/train/results.h"

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
Doubles as_doubles(const std::vector<float>& values) {
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
}

void draw_loss(Axes& axes, const TrainingHistory& h) {
    label(axes, "Loss", "step", "nats per token");
    const Doubles steps = one_to(h.step_loss.size());
    axes.line({.x = steps, .y = h.step_loss, .color = classic_color, .width = 0.8, .alpha = 0.25});
    axes.line({.x = steps,
               .y = smoothed(h.step_loss, 25),
               .label = "train (mean of 50 steps)",
               .color = classic_color});
    axes.line({.x = as_doubles(h.steps),
               .y = h.val_loss,
               .label = "validation",
               .color = sparse_color,
               .marker = 4});
}

void draw_series(Axes& axes, const std::string& title, const std::string& unit, const TrainingHistory& h,
                 const Doubles& values) {
    label(axes, title, "step", unit);
    axes.line({.x = as_doubles(h.steps), .y = values, .marker = 4});
}

void draw_layers(Axes& axes, const std::string& title, const TrainingHistory& h,
                 const std::vector<Doubles>& by_evaluation, const Doubles& mean) {
    label(axes, title, "step", "share");
    const size_t layers = by_evaluation.empty() ? 0 : by_evaluation.front().size();
    for (size_t l = 0; l < layers; ++l) {
        Doubles values;
        for (const Doubles& evaluation : by_evaluation) values.push_back(evaluation[l]);
        axes.line({.x = as_doubles(h.steps),
                   .y = values,
                   .label = fmt::format("layer {}", l),
                   .width = 1,
                   .alpha = 0.7});
    }
    axes.line(
        {.x = as_doubles(h.steps), .y = mean, .label = "mean", .color = plot::colors::black, .width = 2});
}

void draw_alignment(Axes& axes, const TrainingHistory& h) {
    label(axes, "Alignment loss of the indexer", "step (warm-up before 0)", "KL, nats");
    Doubles warmup_steps = one_to(h.warmup_loss.size());
    for (double& s : warmup_steps) s -= static_cast<double>(h.warmup_loss.size());
    axes.line({.x = warmup_steps, .y = h.warmup_loss, .label = "warm-up (dense)"});
    axes.line(
        {.x = as_doubles(h.steps), .y = h.indexer_kl, .label = "sparse stage (validation)", .marker = 4});
}

}  // namespace

void write_training_curves(const std::string& path, const TrainingHistory& h,
                           const ExperimentConfig& config) {
    const bool sparse = config.model.is_sparse();
    Figure figure(2, sparse ? 3 : 2, {sparse ? 1150.0 : 800.0, 600});
    figure.title = fmt::format("{} model, {} preset, {} data", sparse ? "Sparse" : "Classic", config.preset,
                               config.protocol);
    draw_loss(figure.at(0, 0), h);
    draw_series(figure.at(0, 1), "Validation accuracy", "%", h, times(h.val_accuracy, 100));
    draw_series(figure.at(1, 0), "Validation perplexity", "perplexity (log scale)", h, h.val_perplexity);
    figure.at(1, 0).y.scale = plot::Scale::log10;
    draw_series(figure.at(1, 1), "Learning rate", "", h, h.learning_rate);
    if (sparse) {
        draw_alignment(figure.at(0, 2), h);
        const Sparsity s = sparsity_of(config.model);
        draw_layers(figure.at(1, 2),
                    fmt::format("Covered attention mass (sparsity {:.1f} %)", 100 * s.causal), h,
                    h.layer_covered_mass, h.indexer_covered_mass);
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
    draw_both(figure.at(0, 0), "Validation loss", "nats per token", classic, classic.val_loss, sparse,
              sparse.val_loss);
    draw_both(figure.at(0, 1), "Validation accuracy", "%", classic, times(classic.val_accuracy, 100), sparse,
              times(sparse.val_accuracy, 100));
    draw_both(figure.at(0, 2), "Validation perplexity", "perplexity (log scale)", classic,
              classic.val_perplexity, sparse, sparse.val_perplexity);
    figure.at(0, 2).y.scale = plot::Scale::log10;
    draw_both(figure.at(1, 0), "Time per step", "ms", classic, times(classic.time_per_step, 1e3), sparse,
              times(sparse.time_per_step, 1e3));
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

namespace {

// Heat maps share what a reader must know: rows are queries, columns are keys.
void draw_matrix(Axes& axes, const std::string& title, int64_t tokens, Doubles values,
                 plot::HeatMap::Options style, const std::vector<std::string>& names) {
    label(axes, title, "key position", "query position");
    axes.grid = false;
    style.rows = style.columns = tokens;
    style.values = std::move(values);
    if (!names.empty()) {
        axes.x.names = axes.y.names = names;
        axes.x.names_angle = 90;
        axes.x.tick_size = axes.y.tick_size = 6;
    }
    axes.heat_map(std::move(style));
}

std::vector<std::string> token_names(const Dataset& data, const Tensor& tokens) {
    std::vector<std::string> names;
    if (tokens.numel() > 64) return names;
    for (const int32_t id : tokens.to_vector<int32_t>()) names.push_back(data.tokenizer().token_text(id));
    return names;
}

// Future keys are blank (NaN); earlier keys are 1 when selected, 0 when left out.
Doubles selection_values(const AttentionPattern& p) {
    Doubles values(p.selected.size(), NAN);
    for (int64_t t = 0; t < p.tokens; ++t)
        for (int64_t s = 0; s <= t; ++s) {
            const auto at = static_cast<size_t>(t * p.tokens + s);
            values[at] = p.selected[at];
        }
    return values;
}

double left_out_share(const AttentionPattern& p) {
    const auto read = static_cast<double>(std::count(p.selected.begin(), p.selected.end(), 1));
    return 1 - read / (static_cast<double>(p.tokens) * static_cast<double>(p.tokens + 1) / 2);
}

void write_sparse_pattern(const std::string& path, const AttentionPattern& p,
                          const std::vector<std::string>& names) {
    Figure figure(1, 3, {1350, 440});
    figure.title =
        fmt::format("Layer {}: what the indexer scores, what it selects (top {}), what attention reads",
                    p.layer, p.top_k);
    draw_matrix(figure.at(0, 0), "Indexer scores", p.tokens, as_doubles(p.scores), {.bar_label = "score"},
                names);
    draw_matrix(figure.at(0, 1), "Selection", p.tokens, selection_values(p),
                {.map = plot::ColorMap::viridis(),
                 .low = 0,
                 .high = 1,
                 .color_bar = false,
                 .key = {{"selected", plot::ColorMap::viridis().at(1)},
                         {"left out", plot::ColorMap::viridis().at(0)}}},
                names);
    draw_matrix(figure.at(0, 2),
                fmt::format("Attention weights ({:.1f} % of the triangle left out)", 100 * left_out_share(p)),
                p.tokens, as_doubles(p.weights),
                {.map = plot::ColorMap::magma(),
                 .norm = plot::Norm::square_root,
                 .low = 0,
                 .bar_label = "mean over heads"},
                names);
    figure.save(path);
}

void write_dense_pattern(const std::string& path, const AttentionPattern& p,
                         const std::vector<std::string>& names) {
    const int heads = static_cast<int>(std::min<size_t>(2, p.by_head.size()));
    Figure figure(1, 1 + heads, {450.0 * (1 + heads), 440});
    figure.title = fmt::format("Layer {}: dense attention (a classic model has no indexer)", p.layer);
    const plot::HeatMap::Options style{
        .map = plot::ColorMap::magma(), .norm = plot::Norm::square_root, .low = 0};
    draw_matrix(figure.at(0, 0), "Mean over heads", p.tokens, as_doubles(p.weights), style, names);
    for (int h = 0; h < heads; ++h)
        draw_matrix(figure.at(0, 1 + h), fmt::format("Head {}", h), p.tokens,
                    as_doubles(p.by_head[static_cast<size_t>(h)]), style, names);
    figure.save(path);
}

void write_indexer_heads(const std::string& path, const AttentionPattern& p,
                         const std::vector<std::string>& names) {
    const int heads = static_cast<int>(p.head_scores.size()), columns = std::min(heads, 4);
    const int rows = (heads + columns - 1) / columns;
    Figure figure(rows, columns, {std::max(2, columns) * 370.0, 60 + rows * 360.0});
    figure.title = fmt::format("Layer {}: each indexer head's share of the score, w·ReLU(q·k)", p.layer);
    for (int h = 0; h < heads; ++h) {
        const Doubles values = as_doubles(p.head_scores[static_cast<size_t>(h)]);
        double largest = 0;
        for (const double v : values)
            if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
        draw_matrix(figure.at(h / columns, h % columns), fmt::format("Indexer head {}", h), p.tokens, values,
                    {.map = plot::ColorMap::diverging(), .low = -largest, .high = largest}, names);
    }
    figure.save(path);
}

void draw_boxes(Axes& axes, const std::string& title, const std::string& unit, std::vector<Doubles> groups,
                const std::string& if_empty = "") {
    label(axes, title, "layer", unit);
    std::vector<std::string> names;
    for (size_t l = 0; l < groups.size(); ++l) names.push_back(fmt::format("{}", l));
    if (!if_empty.empty()) axes.no_data_text(if_empty);
    axes.boxes({.groups = std::move(groups)}, names);
}

template <class Member>
std::vector<Doubles> by_layer(const std::vector<SelectionStatistics>& layers, Member member) {
    std::vector<Doubles> groups;
    for (const SelectionStatistics& s : layers) groups.push_back(s.*member);
    return groups;
}

nlohmann::ordered_json mean_and_spread(const Doubles& values) {
    if (values.empty()) return {{"count", 0}};
    const double n = static_cast<double>(values.size());
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    double squares = 0;
    for (const double v : values) squares += (v - mean) * (v - mean);
    return {{"count", values.size()}, {"mean", mean}, {"std", std::sqrt(squares / n)}};
}

void write_statistics(const std::string& folder, const std::vector<SelectionStatistics>& layers,
                      const PerLayer& top_k) {
    using S = SelectionStatistics;
    Figure figure(2, 3, {1150, 620});
    figure.title = fmt::format("Selections (top {}) over {} validation windows", to_string(top_k),
                               layers.front().recall.size());
    draw_boxes(figure.at(0, 0), "Sparsity of the causal triangle", "share left out",
               by_layer(layers, &S::sparsity));
    draw_boxes(figure.at(0, 1), "Recall of the true top k", "share", by_layer(layers, &S::recall));
    draw_boxes(figure.at(0, 2), "Covered attention mass", "share", by_layer(layers, &S::covered_mass));
    const std::string no_choice = "every query reads all its keys";
    draw_boxes(figure.at(1, 0), "Keys that some query selects", "share", by_layer(layers, &S::coverage),
               no_choice);
    draw_boxes(figure.at(1, 1), "Distance to selected keys", "tokens", by_layer(layers, &S::distances),
               no_choice);
    Axes& histogram = figure.at(1, 2);
    label(histogram, "Distance to selected keys, all layers", "tokens", "share of selections");
    Doubles all;
    for (const S& s : layers) all.insert(all.end(), s.distances.begin(), s.distances.end());
    if (all.empty())
        histogram.no_data_text(no_choice);
    else
        histogram.histogram(all, 0, *std::max_element(all.begin(), all.end()) + 1, 32, {});
    figure.save(folder + "/attention_statistics.png");

    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const S& s : layers)
        json.push_back({{"layer", s.layer},
                        {"sparsity", mean_and_spread(s.sparsity)},
                        {"recall", mean_and_spread(s.recall)},
                        {"covered_mass", mean_and_spread(s.covered_mass)},
                        {"coverage", mean_and_spread(s.coverage)},
                        {"distance", mean_and_spread(s.distances)}});
    write_json_atomic(folder + "/attention_statistics.json", json);
}

constexpr int64_t statistics_samples = 64;

}  // namespace

std::vector<std::string> write_attention_pictures(const Transformer& model, const Dataset& data,
                                                  const std::vector<int64_t>& layers, int64_t sample,
                                                  const std::string& folder) {
    const Tensor tokens = validation_window(data, sample);
    const std::vector<std::string> names = token_names(data, tokens);
    const std::vector<AttentionPattern> patterns = attention_patterns(model, tokens);
    std::vector<std::string> written;
    for (const int64_t layer : layers) {
        const AttentionPattern& pattern = patterns[static_cast<size_t>(layer)];
        written.push_back(fmt::format("{}/attention_pattern_layer{}.png", folder, layer));
        if (!model.config().is_sparse()) {
            write_dense_pattern(written.back(), pattern, names);
            continue;
        }
        write_sparse_pattern(written.back(), pattern, names);
        written.push_back(fmt::format("{}/indexer_heads_layer{}.png", folder, layer));
        write_indexer_heads(written.back(), pattern, names);
    }
    if (!model.config().is_sparse()) return written;
    write_statistics(folder, selection_statistics(model, data, statistics_samples),
                     model.config().sparse_top_k);
    written.push_back(folder + "/attention_statistics.png");
    written.push_back(folder + "/attention_statistics.json");
    return written;
}

}  // namespace sieve
