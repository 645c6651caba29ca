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

Sparsity mean_sparsity(const SelectionStatistics& s) {
    return {mean_over_layers(s, [&](int64_t k) { return sparsity_of(s.tokens, k).square; }),
            mean_over_layers(s, [&](int64_t k) { return sparsity_of(s.tokens, k).causal; })};
}

double chance(const SelectionStatistics& s) {
    double sum = 0;
    for (const LayerSelections& layer : s.layers) sum += layer.chance;
    return sum / static_cast<double>(s.layers.size());
}

// Of the layers where some query has a choice; NaN without one.
double chance_of_choices(const SelectionStatistics& s) {
    Doubles chances;
    for (const LayerSelections& layer : s.layers) chances.push_back(layer.chance_of_choices);
    return plot::mean_of(chances);
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

// A level across each layer's box, with the mean over layers in its label.
void draw_levels(Axes& axes, const Doubles& by_layer, const std::string& what, const Doubles& dashes) {
    Doubles x, y;
    for (size_t l = 0; l < by_layer.size(); ++l)
        for (const double side : {-0.5, 0.5}) {
            x.push_back(static_cast<double>(l) + side);
            y.push_back(by_layer[l]);
        }
    axes.line({.x = x,
               .y = y,
               .label = fmt::format("{}: {:.3f}", what, plot::mean_of(by_layer)),
               .color = plot::colors::ink,
               .width = 1,
               .dashes = dashes});
}

const Doubles chance_dashes = {4, 3}, oracle_dashes = {1.5, 2};

template <class Value>
Doubles of_layers(const SelectionStatistics& s, const Value& value) {
    Doubles values;
    for (const LayerSelections& layer : s.layers) values.push_back(value(layer));
    return values;
}

// The mean over windows of a member of each layer, as a line with the standard deviation as error bars.
void draw_means(Axes& axes, const SelectionStatistics& s, Doubles LayerSelections::*member,
                const std::string& what) {
    plot::Line::Options line{.label = what, .marker = 4.5};
    for (const LayerSelections& layer : s.layers) {
        const Doubles& values = layer.*member;
        const double mean = plot::mean_of(values);
        double squares = 0;
        for (const double v : values) squares += (v - mean) * (v - mean);
        line.x.push_back(static_cast<double>(line.x.size()));
        line.y.push_back(mean);
        line.errors.push_back(std::sqrt(squares / static_cast<double>(values.size())));
    }
    axes.line(std::move(line));
}

void draw_quality(Figure& figure, const SelectionStatistics& s) {
    using L = LayerSelections;
    const Doubles chances = of_layers(s, [](const L& l) { return l.chance; });
    Axes &recall = figure.at(0, 0), &mass = figure.at(0, 1), &above = figure.at(0, 2);
    draw_boxes(recall, "Recall of the true top k", "share", by_layer(s, &L::recall));
    draw_boxes(mass, "Covered attention mass", "share", by_layer(s, &L::covered_mass));
    for (Axes* axes : {&recall, &mass}) draw_levels(*axes, chances, "random keys", chance_dashes);
    draw_levels(recall, Doubles(s.layers.size(), 1.0), "true top k", oracle_dashes);
    draw_levels(mass, of_layers(s, [](const L& l) { return plot::mean_of(l.oracle_mass); }), "true top k",
                oracle_dashes);
    label(above, "Above chance, of queries with a choice", "layer", "share of the way to the true top k");
    above.no_data_text(no_choice);
    above.x.integers = true;
    if (std::isnan(chance_of_choices(s))) return;
    draw_means(above, s, &L::recall_above_chance, "recall");
    draw_means(above, s, &L::mass_above_chance, "covered mass");
    above.hline(0, "random keys", plot::colors::muted, true, true);
    above.hline(1, "true top k", plot::colors::muted, true);
}

void draw_repetition(Figure& figure, const SelectionStatistics& s) {
    using L = LayerSelections;
    Axes& repeated = figure.at(1, 0);
    label(repeated, "What selections repeat", "layer", "share");
    repeated.no_data_text(no_choice);
    repeated.x.integers = true;
    if (!std::isnan(chance_of_choices(s))) {
        draw_means(repeated, s, &L::query_overlap, "keys of the query before");
        draw_means(repeated, s, &L::first_key, "queries that keep key 0");
        if (!s.layers.front().ties.empty() || !s.layers.back().ties.empty())
            draw_means(repeated, s, &L::ties, "selected keys with equal scores");
        if (!s.layers.front().heads_overlap.empty() || !s.layers.back().heads_overlap.empty())
            draw_means(repeated, s, &L::heads_overlap, "overlap of the indexer's heads, above chance");
        draw_levels(repeated, of_layers(s, [](const L& l) { return l.chance_of_choices; }),
                    "random keys (the first two)", chance_dashes);
    }
    Axes& overlap = figure.at(1, 1);
    label(overlap, "Keys of a layer that another selects too", "layer whose keys are sought",
          "layer that selects");
    overlap.no_data_text(no_choice);
    if (!std::isnan(chance_of_choices(s))) {
        Doubles values;
        for (size_t a = 0; a < s.layers.size(); ++a)
            for (size_t b = 0; b < s.layers.size(); ++b)
                values.push_back(a == b ? NAN : s.layer_overlap[a][b]);
        const auto layers = static_cast<int64_t>(s.layers.size());
        overlap.heat_map({.rows = layers,
                          .columns = layers,
                          .values = std::move(values),
                          .low = 0,
                          .high = 1,
                          .bar_label = fmt::format("share; random keys: {:.3f}", chance_of_choices(s))});
    }
    draw_boxes(figure.at(1, 2), "Keys that some query selects", "share of all keys",
               by_layer(s, &L::coverage));
}

// Means over bins of positions: single positions are as noisy as there are windows.
void draw_losses(Axes& axes, const SelectionStatistics& s) {
    label(axes, "Loss by position", "position", "nats per token");
    const int64_t width = (s.tokens + 31) / 32;
    Doubles x, y;
    for (int64_t first = 0; first < s.tokens; first += width) {
        const int64_t end = std::min(s.tokens, first + width);
        x.push_back(static_cast<double>(first + end - 1) / 2);
        y.push_back(
            std::accumulate(s.loss_by_position.begin() + first, s.loss_by_position.begin() + end, 0.0) /
            static_cast<double>(end - first));
    }
    axes.line({.x = x, .y = y, .marker = 3});
    const std::vector<int64_t>& top_k = s.top_k.values();
    const int64_t least = *std::min_element(top_k.begin(), top_k.end());
    if (least < s.tokens) axes.vline(static_cast<double>(least), fmt::format("k = {}", least));
}

void draw_statistics(Figure& figure, const SelectionStatistics& s) {
    const Sparsity sparsity = mean_sparsity(s);
    figure.title = fmt::format(
        "Selections of the top {} of up to {} keys, {} validation windows; sparsity {:.1f} % of the "
        "triangle, "
        "{:.1f} % of the square\n"
        "Boxes: quartiles over windows (distances: over keys), whiskers: 5 to 95 %, large dot: mean; error "
        "bars: "
        "standard deviation",
        to_string(s.top_k), s.tokens, s.windows, 100 * sparsity.causal, 100 * sparsity.square);
    draw_quality(figure, s);
    draw_repetition(figure, s);
    draw_boxes(figure.at(2, 0), "Distance to selected keys", "tokens", distances_by_layer(s));
    draw_distances(figure.at(2, 1), s);
    draw_losses(figure.at(2, 2), s);
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

// Of a layer: each measure's summary over windows, beside what random keys would have.
Json layer_json(const LayerSelections& layer) {
    using L = LayerSelections;
    Json json{
        {"layer", layer.layer},
        {"chance", layer.chance},
        {"chance_of_choices", std::isnan(layer.chance_of_choices) ? Json() : Json(layer.chance_of_choices)}};
    for (const auto& [name, member] : std::initializer_list<std::pair<const char*, Doubles L::*>>{
             {"sparsity", &L::sparsity},
             {"recall", &L::recall},
             {"covered_mass", &L::covered_mass},
             {"oracle_mass", &L::oracle_mass},
             {"recall_of_choices", &L::recall_of_choices},
             {"covered_mass_of_choices", &L::covered_mass_of_choices},
             {"oracle_mass_of_choices", &L::oracle_mass_of_choices},
             {"recall_above_chance", &L::recall_above_chance},
             {"mass_above_chance", &L::mass_above_chance},
             {"entropy", &L::entropy},
             {"ties", &L::ties},
             {"heads_overlap", &L::heads_overlap},
             {"first_key", &L::first_key},
             {"query_overlap", &L::query_overlap},
             {"coverage", &L::coverage}})
        json[name] = summary(layer.*member);
    json["distance"] = distance_summary(layer.distance_counts);
    json["distance_counts"] = layer.distance_counts;
    return json;
}

Json numbers_json(const Doubles& values) {
    Json json = Json::array();
    for (const double v : values) json.push_back(std::isnan(v) ? Json() : Json(v));
    return json;
}

Json statistics_json(const SelectionStatistics& s) {
    const Sparsity sparsity = mean_sparsity(s);
    Json json = {{"windows", s.windows},
                 {"sequence_length", s.tokens},
                 {"top_k", s.top_k},
                 {"sparsity", {{"square", sparsity.square}, {"causal", sparsity.causal}}},
                 {"random_keys", chance(s)}};
    if (!std::isnan(chance_of_choices(s))) json["random_keys_of_choices"] = chance_of_choices(s);
    json["loss_by_position"] = numbers_json(s.loss_by_position);
    json["layer_overlap"] = Json::array();
    for (const Doubles& row : s.layer_overlap) json["layer_overlap"].push_back(numbers_json(row));
    json["layers"] = Json::array();
    for (const LayerSelections& layer : s.layers) json["layers"].push_back(layer_json(layer));
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
    Figure figure(3, 3, {1200, 960});
    draw_statistics(figure, statistics);
    figure.save(picture);
    write_json_atomic(numbers, statistics_json(statistics));
    return {picture, numbers};
}

}  // namespace sieve
