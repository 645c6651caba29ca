#include "framework/runs/claims_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace sieve {
namespace {

using plot::Axes;

const Claim& claim_named(const std::string& name) {
    return *std::find_if(claims().begin(), claims().end(),
                         [&](const Claim& claim) { return claim.name == name; });
}

// A run of a claim, what it was done with, and its numbers.
struct Point {
    ClaimRun run;
    ModelConfig model;
    std::vector<double> numbers;  // one a seed
    Interval interval;
};

bool is_classic(const Point* p) {
    return p->run.variant == AttentionKind::classic;
}

std::string selector_of(const Point& p) {
    return is_classic(&p) ? "classic" : p.model.selector;
}

// Each run of the claims that has numbers, once, in the table's order.
std::vector<Point> points_of(const std::vector<std::string>& names, const char* metric,
                             const ClaimsCommand& command, const RunRecords& records) {
    std::vector<Point> points;
    std::set<std::string> seen;
    const auto add = [&](const ClaimRun& run) {
        if (!seen.insert(name_of_run(run, command, 0)).second) return;
        const std::vector<double> numbers = numbers_of(run, metric, command, records);
        if (!numbers.empty())
            points.push_back({run, config_of(run, command, 0).model, numbers, interval_of(numbers)});
    };
    for (const std::string& name : names)
        for (const ClaimRow& row : claim_named(name).rows)
            for (const ClaimRun& run : runs_of_row(row)) add(run);
    return points;
}

// A line through the points' means with their intervals, and each seed's number as a faint dot, `aside` of it.
void draw(Axes& axes, const std::vector<double>& x, const std::vector<const Point*>& points, double factor,
          const std::string& label, plot::Color color, double aside = 0) {
    plot::Line::Options line{.x = x, .label = label, .color = color, .marker = 6};
    plot::Scatter::Options seeds{.color = color, .size = 3.5, .alpha = 0.45};
    for (size_t i = 0; i < points.size(); ++i) {
        line.y.push_back(factor * points[i]->interval.mean);
        line.errors.push_back(factor * points[i]->interval.half_width);
        for (const double number : points[i]->numbers)
            seeds.x.push_back(x[i] + aside), seeds.y.push_back(factor * number);
    }
    axes.scatter(std::move(seeds));
    axes.line(std::move(line));
}

void name_places(Axes& axes, const std::vector<std::string>& names) {
    axes.x.names = names;
    axes.x.low = -0.5;
    axes.x.high = static_cast<double>(names.size()) - 0.5;
}

ClaimFigure loss_by_selector(std::vector<Point> points) {
    std::stable_sort(points.begin(), points.end(),
                     [](const Point& a, const Point& b) { return a.interval.mean < b.interval.mean; });
    ClaimFigure result{
        .file = "loss_by_selector.png",
        .caption =
            "Validation loss by what chooses the keys. A dot is a seed, the bar the mean with its 95 % "
            "interval",
        .figure = plot::Figure(1, 1, {460, 330})};
    Axes& axes = result.figure.at(0, 0);
    const ModelConfig& model = points.front().model;
    axes.title = fmt::format("Validation loss at {} tokens, {} keys", model.max_seq_len,
                             to_string(model.sparse_top_k));
    axes.y.label = "nats per token";
    std::vector<std::string> names;
    for (size_t i = 0; i < points.size(); ++i) {
        draw(axes, {static_cast<double>(i)}, {&points[i]}, 1, "", plot::palette(i), -0.15);
        names.push_back(selector_of(points[i]));
    }
    name_places(axes, names);
    return result;
}

// Classic attention, which reads all keys whatever k is.
void draw_ceiling(Axes& axes, const Interval& ceiling, size_t keys) {
    const double mean = 100 * ceiling.mean;
    plot::Line::Options line{.x = {-0.5, static_cast<double>(keys) - 0.5},
                             .y = {mean, mean},
                             .label = "classic, all keys",
                             .color = plot::colors::muted,
                             .dashes = {4, 3}};
    if (ceiling.n > 1) {
        const double half = 100 * ceiling.half_width;
        line.low = {mean - half, mean - half}, line.high = {mean + half, mean + half};
    }
    axes.line(std::move(line));
}

// Of one length.
void draw_answers(Axes& axes, const std::vector<const Point*>& points) {
    std::set<int64_t> keys;
    std::vector<std::string> selectors;
    for (const Point* p : points) {
        if (is_classic(p)) continue;
        keys.insert(p->model.sparse_top_k.of(0));
        if (std::find(selectors.begin(), selectors.end(), p->model.selector) == selectors.end())
            selectors.push_back(p->model.selector);
    }
    axes.title = fmt::format("{} tokens", points.front()->model.max_seq_len);
    axes.x.label = "keys that a query reads";
    axes.y.label = "right answers, %";
    axes.y.low = 0, axes.y.high = 105;
    std::vector<std::string> names;
    names.reserve(keys.size());
    for (const int64_t k : keys) names.push_back(std::to_string(k));
    name_places(axes, names);
    for (size_t i = 0; i < selectors.size(); ++i) {
        std::vector<double> x;
        std::vector<const Point*> line;
        const double shift = 0.06 * (static_cast<double>(i) - static_cast<double>(selectors.size() - 1) / 2);
        for (const Point* p : points) {
            if (is_classic(p) || p->model.selector != selectors[i]) continue;
            const auto place = std::distance(keys.begin(), keys.find(p->model.sparse_top_k.of(0)));
            x.push_back(static_cast<double>(place) + shift);
            line.push_back(p);
        }
        draw(axes, x, line, 100, selectors[i], plot::palette(i));
    }
    for (const Point* p : points)
        if (is_classic(p)) draw_ceiling(axes, p->interval, keys.size());
    axes.hline(10, "chance", plot::colors::muted, true);
}

// A length of which only classic attention was measured has no keys to show it by.
std::map<int64_t, std::vector<const Point*>> lengths_with_keys(const std::vector<Point>& points) {
    std::map<int64_t, std::vector<const Point*>> by_length;
    for (const Point& p : points) by_length[p.model.max_seq_len].push_back(&p);
    std::erase_if(by_length, [](const auto& at_length) {
        return std::all_of(at_length.second.begin(), at_length.second.end(), is_classic);
    });
    return by_length;
}

std::optional<ClaimFigure> answers_by_keys(const std::vector<Point>& points) {
    const std::map<int64_t, std::vector<const Point*>> by_length = lengths_with_keys(points);
    if (by_length.empty()) return std::nullopt;
    const int columns = static_cast<int>(by_length.size());
    ClaimFigure result{.file = "recall_by_keys.png",
                       .caption =
                           "The recall task: right answers by how many keys a query reads and what "
                           "chooses them. A dot is a seed; means with their 95 % intervals",
                       .figure = plot::Figure(1, columns, {columns * 400.0, 330})};
    int column = 0;
    for (const auto& [length, at_length] : by_length) draw_answers(result.figure.at(0, column++), at_length);
    return result;
}

ClaimFigure speedup_by_length(const std::vector<Point>& points) {
    ClaimFigure result{.file = "speedup_by_length.png",
                       .caption =
                           "Seconds of a classic step over those of a sparse one. A dot is a seed; means "
                           "with their 95 % intervals",
                       .figure = plot::Figure(1, 1, {460, 330})};
    Axes& axes = result.figure.at(0, 0);
    axes.title = "Speed-up of a training step by length";
    axes.x.label = "tokens";
    axes.x.scale = plot::Scale::log2;
    axes.y.label = "classic / sparse seconds";
    std::map<std::string, std::map<int64_t, const Point*>> lines;  // by length
    for (const Point& p : points)
        lines[fmt::format("{}'s model, k = {}", p.run.preset, to_string(p.model.sparse_top_k))]
             [p.model.max_seq_len] = &p;
    size_t color = 0;
    for (const auto& [label, by_length] : lines) {
        std::vector<double> x;
        std::vector<const Point*> line;
        for (const auto& [length, point] : by_length)
            x.push_back(static_cast<double>(length)), line.push_back(point);
        draw(axes, x, line, 1, label, plot::palette(color++));
    }
    axes.hline(1, "equally fast", plot::colors::muted, true);
    axes.hline(1.4, "claimed", plot::colors::muted, true);
    return result;
}

}  // namespace

std::vector<ClaimFigure> claims_figures(const ClaimsCommand& command, const RunRecords& records) {
    std::vector<ClaimFigure> figures;
    const auto add = [&](const std::vector<std::string>& names, const char* metric, auto&& make) {
        const std::vector<Point> points = points_of(names, metric, command, records);
        if (points.empty()) return;
        if (std::optional<ClaimFigure> figure = make(points)) figures.push_back(std::move(*figure));
    };
    add({"selection_matters"}, "val_loss", loss_by_selector);
    add({"recall"}, "answer_accuracy", answers_by_keys);
    add({"faster", "grows_with_length"}, "speedup", speedup_by_length);
    return figures;
}

}  // namespace sieve
