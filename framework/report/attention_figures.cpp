// The pictures of what a model attends to, and of the statistics of its selections.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "framework/io/json_file.h"
#include "framework/plot/figure.h"
#include "framework/program/config.h"
#include "framework/report/inspect.h"
#include "framework/train/evaluate.h"

namespace sieve {
namespace {

using plot::Axes;
using plot::Figure;
using Doubles = std::vector<double>;

Doubles as_doubles(const std::vector<float>& values) {
    return {values.begin(), values.end()};
}

void label(Axes& axes, const std::string& title, const std::string& x, const std::string& y) {
    axes.title = title;
    axes.x.label = x;
    axes.y.label = y;
}

// ---- matrices

// Up to so many tokens the axes show their texts, and the cells are large enough for these to be read.
constexpr int64_t most_names = 64;
constexpr double cell_with_name = 7.6, least_side = 260, plain_side = 330, widest_figure = 2000;

double side_of(int64_t tokens) {
    if (tokens > most_names) return plain_side;
    return std::max(least_side, cell_with_name * static_cast<double>(tokens));
}

double name_size(int64_t tokens) {
    return std::min(10.0, 0.92 * side_of(tokens) / static_cast<double>(tokens));
}

// As many as are wide enough, and equally many in each row where that can be.
int columns_for(int panels, int64_t tokens) {
    const int most = std::clamp(static_cast<int>(widest_figure / (side_of(tokens) + 130)), 1, 4);
    const int rows = (panels + most - 1) / most;
    return (panels + rows - 1) / rows;
}

// Heat maps share what a reader must know: rows are queries, columns are keys.
void draw_matrix(Axes& axes, const std::string& title, const TextSample& sample, Doubles values,
                 plot::HeatMap::Options style) {
    label(axes, title, "key", "query");
    style.rows = style.columns = sample.tokens.numel();
    style.values = std::move(values);
    if (style.rows <= most_names) {
        axes.x.names = axes.y.names = sample.names;
        axes.x.names_angle = 90;
        axes.x.tick_size = axes.y.tick_size = name_size(style.rows);
    } else {
        axes.x.label += " position", axes.y.label += " position";
    }
    axes.heat_map(std::move(style));
}

void save_matrices(Figure& figure, const TextSample& sample, const std::string& path) {
    const double side = side_of(sample.tokens.numel());
    figure.fit_plots({side, side});
    figure.save(path);
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

// Below every weight, for the colour of what is left out; so little that a mean with weights is a weight.
constexpr double left_out = -1e-12;
constexpr plot::Color left_out_color = plot::Color::hex(0x9ec9e2);  // far from magma and from blank

Doubles weights_or_left_out(const AttentionPattern& p) {
    Doubles values = as_doubles(p.weights);
    for (int64_t t = 0; t < p.tokens; ++t)
        for (int64_t s = 0; s <= t; ++s) {
            const auto at = static_cast<size_t>(t * p.tokens + s);
            if (!p.selected[at]) values[at] = left_out;
        }
    return values;
}

// The first rows share their mass among few keys; colours that reached up to their weights would leave all
// other rows dark.
plot::HeatMap::Options weight_style(Doubles values) {
    std::erase_if(values, [](double v) { return !(v >= 0); });
    return {.map = plot::ColorMap::magma(),
            .norm = plot::Norm::square_root,
            .low = 0,
            .high = plot::quantile(std::move(values), 0.98)};
}

void draw_weights(Axes& axes, const AttentionPattern& p, const TextSample& sample) {
    const auto read = static_cast<double>(std::count(p.selected.begin(), p.selected.end(), 1));
    const auto T = static_cast<double>(p.tokens);
    const Doubles values = weights_or_left_out(p);
    plot::HeatMap::Options style = weight_style(values);
    style.bar_label = "weight, mean over heads";
    style.under = left_out_color;
    style.key = {{"left out", left_out_color}};
    draw_matrix(axes,
                fmt::format("Attention weights\nsparsity {:.1f} % of the triangle, {:.1f} % of the square",
                            100 * (1 - read / (T * (T + 1) / 2)), 100 * (1 - read / (T * T))),
                sample, values, std::move(style));
}

void write_sparse_pattern(const std::string& path, const AttentionPattern& p, const TextSample& sample) {
    const bool scored = !p.scores.empty();
    const int first = scored ? 1 : 0;
    Figure figure(1, first + 2, {450.0 * (first + 2), 440});
    figure.title =
        fmt::format("Layer {}, {}: {} selects (top {}), what attention reads", p.layer, sample.what,
                    scored ? "what the indexer scores, what it" : "what the selector", p.top_k);
    if (scored)
        draw_matrix(figure.at(0, 0), "Indexer scores", sample, as_doubles(p.scores), {.bar_label = "score"});
    const plot::ColorMap map = plot::ColorMap::viridis();
    draw_matrix(figure.at(0, first), "Selection", sample, selection_values(p),
                {.map = map,
                 .low = 0,
                 .high = 1,
                 .color_bar = false,
                 .key = {{"selected", map.at(1)}, {"left out", map.at(0)}}});
    draw_weights(figure.at(0, first + 1), p, sample);
    save_matrices(figure, sample, path);
}

// All panels share one scale: heads can be compared.
void write_dense_pattern(const std::string& path, const AttentionPattern& p, const TextSample& sample) {
    const int panels = 1 + static_cast<int>(p.by_head.size()), columns = columns_for(panels, p.tokens);
    Figure figure((panels + columns - 1) / columns, columns, {900, 440});
    figure.title = fmt::format("Layer {}, {}: dense attention of a classic model, which has no indexer",
                               p.layer, sample.what);
    Doubles all;
    for (const auto& head : p.by_head) all.insert(all.end(), head.begin(), head.end());
    plot::HeatMap::Options style = weight_style(std::move(all));
    style.bar_label = "weight";
    draw_matrix(figure.at(0, 0), "Mean over heads", sample, as_doubles(p.weights), style);
    for (int i = 1; i < panels; ++i)
        draw_matrix(figure.at(i / columns, i % columns), fmt::format("Head {}", i - 1), sample,
                    as_doubles(p.by_head[static_cast<size_t>(i - 1)]), style);
    save_matrices(figure, sample, path);
}

// One scale for all heads, so that their panels can be compared. A few outliers do not set it.
double common_scale(const std::vector<std::vector<float>>& heads) {
    Doubles sizes;
    for (const auto& head : heads)
        for (const float v : head)
            if (std::isfinite(v) && v != 0) sizes.push_back(std::abs(v));
    return sizes.empty() ? 1 : plot::quantile(std::move(sizes), 0.995);
}

void write_indexer_heads(const std::string& path, const AttentionPattern& p, const TextSample& sample) {
    const int heads = static_cast<int>(p.head_scores.size()), columns = columns_for(heads, p.tokens);
    Figure figure((heads + columns - 1) / columns, columns, {900, 440});
    figure.title = fmt::format("Layer {}, {}: each indexer head's share of the score, w·ReLU(q·k)", p.layer,
                               sample.what);
    const double scale = common_scale(p.head_scores);
    for (int h = 0; h < heads; ++h) {
        const Doubles values = as_doubles(p.head_scores[static_cast<size_t>(h)]);
        const bool silent =
            std::none_of(values.begin(), values.end(), [](double v) { return std::abs(v) > 0; });
        draw_matrix(figure.at(h / columns, h % columns),
                    fmt::format("Indexer head {}{}", h, silent ? " (0 everywhere)" : ""), sample, values,
                    {.map = plot::ColorMap::diverging(), .low = -scale, .high = scale});
    }
    save_matrices(figure, sample, path);
}

// ---- statistics

// At most `most` of the counted values (value i, counts[i] times), at evenly spaced ranks: their quantiles.
Doubles values_at_ranks(const std::vector<int64_t>& counts, int64_t most) {
    const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    const int64_t n = std::min(total, most);
    Doubles values;
    int64_t below = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
        below += counts[i];
        // The rank of sample j is the middle of the j-th of n equal parts.
        while (static_cast<int64_t>(values.size()) < n &&
               (2 * static_cast<int64_t>(values.size()) + 1) * total < 2 * below * n)
            values.push_back(static_cast<double>(i));
    }
    return values;
}

constexpr int64_t ranks = 10000;
constexpr const char* no_choice = "every query reads all its keys";

void draw_boxes(Axes& axes, const std::string& title, const std::string& unit, std::vector<Doubles> groups) {
    label(axes, title, "layer", unit);
    std::vector<std::string> names;
    for (size_t l = 0; l < groups.size(); ++l) names.push_back(fmt::format("{}", l));
    axes.no_data_text(no_choice);
    axes.boxes({.groups = std::move(groups)}, names);
}

std::vector<Doubles> by_layer(const SelectionStatistics& s, Doubles LayerSelections::*member) {
    std::vector<Doubles> groups;
    for (const LayerSelections& layer : s.layers) groups.push_back(layer.*member);
    return groups;
}

std::vector<Doubles> distances_by_layer(const SelectionStatistics& s) {
    std::vector<Doubles> groups;
    for (const LayerSelections& layer : s.layers)
        groups.push_back(values_at_ranks(layer.distance_counts, ranks));
    return groups;
}

// The mean of f(a layer's k).
template <class F>
double mean_over_layers(const SelectionStatistics& s, const F& f) {
    double sum = 0;
    for (const LayerSelections& layer : s.layers) sum += f(s.top_k.of(layer.layer));
    return sum / static_cast<double>(s.layers.size());
}

double square_sparsity(const SelectionStatistics& s) {
    return mean_over_layers(s, [&](int64_t k) { return sparsity_of(s.tokens, k).square; });
}

double chance(const SelectionStatistics& s) {
    return mean_over_layers(s, [&](int64_t k) { return chance_share(s.tokens, k, 0); });
}

// How often each distance would be selected if the keys were picked at random, in bins of `width` distances.
Doubles random_distance_shares(const SelectionStatistics& s, int64_t width, int64_t bins) {
    Doubles shares(static_cast<size_t>(bins), 0.0);
    double selections = 0;
    for (const LayerSelections& layer : s.layers)
        for (int64_t k = s.top_k.of(layer.layer), t = k; t < s.tokens;
             ++t, selections += static_cast<double>(k))
            for (int64_t d = 0; d <= t; ++d)
                shares[static_cast<size_t>(d / width)] += static_cast<double>(k) / static_cast<double>(t + 1);
    for (double& share : shares) share /= selections;
    return shares;
}

void draw_distances(Axes& axes, const SelectionStatistics& s) {
    label(axes, "Distance to selected keys, all layers", "tokens", "share of selections");
    axes.no_data_text(no_choice);
    if (mean_over_layers(s, [&](int64_t k) { return k < s.tokens ? 1.0 : 0.0; }) == 0) return;
    std::vector<int64_t> counts(static_cast<size_t>(s.tokens), 0);
    for (const LayerSelections& layer : s.layers)
        for (size_t d = 0; d < counts.size(); ++d) counts[d] += layer.distance_counts[d];
    // Every bin holds equally many distances.
    const int64_t width = (s.tokens + 31) / 32, bins = (s.tokens + width - 1) / width;
    axes.histogram(values_at_ranks(counts, ranks), -0.5, static_cast<double>(bins * width) - 0.5,
                   static_cast<int>(bins), {.label = "selected"});
    Doubles middles;
    for (int64_t i = 0; i < bins; ++i)
        middles.push_back((static_cast<double>(i) + 0.5) * static_cast<double>(width) - 0.5);
    axes.line({.x = middles,
               .y = random_distance_shares(s, width, bins),
               .label = "picked at random",
               .color = plot::colors::ink,
               .width = 1.3,
               .dashes = {4, 3}});
}

void draw_statistics(Figure& figure, const SelectionStatistics& s) {
    using L = LayerSelections;
    const double random_share = chance(s);
    figure.title = fmt::format("Selections (top {} of up to {} keys) over {} validation windows, by layer",
                               to_string(s.top_k), s.tokens, s.windows);
    draw_boxes(figure.at(0, 0), "Sparsity of the causal triangle", "share left out",
               by_layer(s, &L::sparsity));
    figure.at(0, 0).y.low = 0, figure.at(0, 0).y.high = 1;
    const double square = square_sparsity(s);
    figure.at(0, 0).hline(square, fmt::format("of the square: {:.3f}", square));
    draw_boxes(figure.at(0, 1), "Recall of the true top k", "share", by_layer(s, &L::recall));
    draw_boxes(figure.at(0, 2), "Covered attention mass", "share", by_layer(s, &L::covered_mass));
    for (const int column : {1, 2})
        figure.at(0, column).line({.x = {-0.5, static_cast<double>(s.layers.size()) - 0.5},
                                   .y = {random_share, random_share},
                                   .label = fmt::format("random keys: {:.3f}", random_share),
                                   .color = plot::colors::muted,
                                   .width = 1,
                                   .dashes = {4, 3}});
    draw_boxes(figure.at(1, 0), "Keys that some query selects", "share of all keys",
               by_layer(s, &L::coverage));
    draw_boxes(figure.at(1, 1), "Distance to selected keys", "tokens", distances_by_layer(s));
    draw_distances(figure.at(1, 2), s);
}

using Json = nlohmann::ordered_json;

Json summary(const Doubles& values) {
    if (values.empty()) return {{"count", 0}};
    const double mean = plot::mean_of(values);
    double squares = 0;
    for (const double v : values) squares += (v - mean) * (v - mean);
    return {{"count", values.size()},
            {"mean", json_number(mean)},
            {"std", json_number(std::sqrt(squares / static_cast<double>(values.size())))},
            {"min", json_number(plot::quantile(values, 0))},
            {"p5", json_number(plot::quantile(values, 0.05))},
            {"p25", json_number(plot::quantile(values, 0.25))},
            {"median", json_number(plot::quantile(values, 0.5))},
            {"p75", json_number(plot::quantile(values, 0.75))},
            {"p95", json_number(plot::quantile(values, 0.95))},
            {"max", json_number(plot::quantile(values, 1))}};
}

// The quantiles come from evenly spaced ranks, the rest from all values.
Json distance_summary(const std::vector<int64_t>& counts) {
    Json json = summary(values_at_ranks(counts, ranks));
    double n = 0, sum = 0, squares = 0;
    for (size_t d = 0; d < counts.size(); ++d) {
        n += static_cast<double>(counts[d]);
        sum += static_cast<double>(counts[d]) * static_cast<double>(d);
        squares += static_cast<double>(counts[d]) * static_cast<double>(d * d);
    }
    if (n == 0) return json;
    json["count"] = static_cast<int64_t>(n);
    json["mean"] = sum / n;
    json["std"] = std::sqrt(std::max(0.0, squares / n - sum / n * (sum / n)));
    const auto selected = [](int64_t count) { return count > 0; };
    json["min"] = std::find_if(counts.begin(), counts.end(), selected) - counts.begin();
    json["max"] = counts.rend() - std::find_if(counts.rbegin(), counts.rend(), selected) - 1;
    return json;
}

Json statistics_json(const SelectionStatistics& s) {
    Json json = {
        {"windows", s.windows},
        {"sequence_length", s.tokens},
        {"top_k", s.top_k},
        {"sparsity",
         {{"square", square_sparsity(s)},
          {"causal", mean_over_layers(s, [&](int64_t k) { return sparsity_of(s.tokens, k).causal; })}}},
        {"random_keys", chance(s)}};
    const auto has_choice = [&](int64_t k) { return k < s.tokens; };
    if (mean_over_layers(s, has_choice) == 1)
        json["random_keys_of_choices"] =
            mean_over_layers(s, [&](int64_t k) { return chance_share(s.tokens, k, k); });
    json["layers"] = Json::array();
    for (const LayerSelections& layer : s.layers)
        json["layers"].push_back({{"layer", layer.layer},
                                  {"sparsity", summary(layer.sparsity)},
                                  {"recall", summary(layer.recall)},
                                  {"covered_mass", summary(layer.covered_mass)},
                                  {"recall_of_choices", summary(layer.recall_of_choices)},
                                  {"covered_mass_of_choices", summary(layer.covered_mass_of_choices)},
                                  {"coverage", summary(layer.coverage)},
                                  {"distance", distance_summary(layer.distance_counts)},
                                  {"distance_counts", layer.distance_counts}});
    return json;
}

}  // namespace

std::vector<std::string> write_attention_pictures(const Transformer& model, const TextSample& sample,
                                                  const std::vector<int64_t>& layers,
                                                  const std::string& folder) {
    std::vector<std::string> written;
    // Layer by layer: of a long text the matrices of all layers would not fit into memory.
    for (const int64_t layer : layers) {
        const AttentionPattern pattern = attention_pattern(model, sample.tokens, layer);
        if (!model.config().is_sparse()) {
            written.push_back(fmt::format("{}/dense_attention_layer{}.png", folder, layer));
            write_dense_pattern(written.back(), pattern, sample);
            continue;
        }
        written.push_back(fmt::format("{}/attention_pattern_layer{}.png", folder, layer));
        write_sparse_pattern(written.back(), pattern, sample);
        const std::string heads = fmt::format("{}/indexer_heads_layer{}.png", folder, layer);
        if (pattern.head_scores.empty()) {
            std::filesystem::remove(heads);  // of an earlier model
            continue;
        }
        written.push_back(heads);
        write_indexer_heads(written.back(), pattern, sample);
    }
    return written;
}

std::vector<std::string> write_selection_statistics(const SelectionStatistics& statistics,
                                                    const std::string& folder) {
    const std::string picture = folder + "/attention_statistics.png",
                      numbers = folder + "/attention_statistics.json";
    Figure figure(2, 3, {1150, 620});
    draw_statistics(figure, statistics);
    figure.save(picture);
    write_json_atomic(numbers, statistics_json(statistics));
    return {picture, numbers};
}

}  // namespace sieve
