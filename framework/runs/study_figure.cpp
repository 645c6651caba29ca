// The figure of a study: a panel a metric, the first varied key along x, a line for each combination of the
// others.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "framework/plot/figure.h"
#include "framework/runs/study.h"

namespace sieve {
namespace {

using plot::Axes;

// What all points of a line share: the variant and the values of every key but the first.
struct Series {
    AttentionKind variant;
    std::vector<std::string> other_values;
    std::vector<const Combination*> at;       // one a value of the first key; null where there is none
    const Combination* everywhere = nullptr;  // of a variant that does not have the first key
};

std::vector<Series> series_of(const StudyPlan& plan, const std::vector<Combination>& combinations) {
    std::vector<Series> all;
    const std::vector<std::string>& places = plan.varied.front().values;
    for (const Combination& c : combinations) {
        const std::vector<std::string> others(c.values.begin() + 1, c.values.end());
        auto series = std::find_if(all.begin(), all.end(), [&](const Series& s) {
            return s.variant == c.variant && s.other_values == others;
        });
        if (series == all.end())
            series = all.insert(series, {.variant = c.variant,
                                         .other_values = others,
                                         .at = std::vector<const Combination*>(places.size())});
        const auto place = std::find(places.begin(), places.end(), c.values.front());
        if (place == places.end())
            series->everywhere = &c;
        else
            series->at[static_cast<size_t>(place - places.begin())] = &c;
    }
    return all;
}

std::string label_of(const StudyPlan& plan, const Series& series, bool name_variant) {
    std::string text = name_variant ? name_of(series.variant) : "";
    for (size_t i = 0; i < series.other_values.size(); ++i)
        if (!series.other_values[i].empty())
            text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", plan.varied[i + 1].name,
                                series.other_values[i]);
    return text;
}

// Seeds as faint dots, their mean with an error bar; `shift` keeps the bars of several lines apart.
void draw_points(Axes& axes, const Series& series, MetricKey metric, const std::string& label,
                 plot::Color color, double shift) {
    plot::Line::Options line{.label = label, .color = color, .marker = 5};
    plot::Scatter::Options dots{.color = color, .size = 3, .alpha = 0.45};
    for (size_t i = 0; i < series.at.size(); ++i) {
        const Spread spread = series.at[i] ? series.at[i]->spread(metric) : Spread();
        line.x.push_back(static_cast<double>(i) + shift);
        line.y.push_back(metric->factor * spread.mean);
        line.errors.push_back(metric->factor * spread.deviation);
        if (spread.count < 2) continue;
        for (const Measurement& run : series.at[i]->finished) {
            dots.x.push_back(line.x.back());
            dots.y.push_back(metric->factor * run[metric]);
        }
    }
    axes.scatter(std::move(dots));
    axes.line(std::move(line));
}

// The mean across all values, with the deviation as a band.
void draw_level(Axes& axes, const Series& series, MetricKey metric, const std::string& label,
                plot::Color color) {
    const Spread spread = series.everywhere->spread(metric);
    const double mean = metric->factor * spread.mean, deviation = metric->factor * spread.deviation;
    const double last = static_cast<double>(series.at.size()) - 0.5;
    axes.line({.x = {-0.5, last},
               .y = {mean, mean},
               .label = label,
               .color = color,
               .dashes = {4, 3},
               .low = {mean - deviation, mean - deviation},
               .high = {mean + deviation, mean + deviation}});
}

// What chance or an oracle gives in the runs of this series, in its colour.
void draw_beside(Axes& axes, const Series& series, MetricKey beside, bool named, plot::Color color,
                 std::vector<double> dashes) {
    plot::Line::Options line{
        .label = named ? beside->title : "", .color = color, .width = 1.1, .dashes = std::move(dashes)};
    for (size_t i = 0; i < series.at.size(); ++i) {
        const Combination* runs = series.everywhere ? series.everywhere : series.at[i];
        line.x.push_back(static_cast<double>(i));
        line.y.push_back(runs ? beside->factor * runs->spread(beside).mean : NAN);
    }
    axes.line(std::move(line));
}

// A gap in the lines is explained where every run at that value failed.
void mark_failures(Axes& axes, const std::vector<Series>& all) {
    for (size_t i = 0; i < all.front().at.size(); ++i) {
        bool failed = false, finished = false;
        for (const Series& series : all)
            if (const Combination* c = series.at[i]) {
                failed = failed || c->failed > 0;
                finished = finished || !c->finished.empty();
            }
        if (failed && !finished) axes.vline(static_cast<double>(i), "failed");
    }
}

}  // namespace

void draw_study_metric(Axes& axes, const StudyPlan& plan, const std::vector<StudyRun>& runs,
                       MetricKey metric) {
    const std::vector<Combination> combinations = combinations_of(runs);
    const std::vector<Series> all = series_of(plan, combinations);
    const bool both = std::any_of(all.begin(), all.end(),
                                  [&](const Series& s) { return s.variant != all.front().variant; });
    axes.title = metric->title;
    axes.title[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(axes.title[0])));
    axes.y.label = metric->unit;
    axes.x.label = plan.varied.front().name;
    axes.x.names = plan.varied.front().values;
    axes.x.low = -0.5;
    axes.x.high = static_cast<double>(axes.x.names.size()) - 0.5;
    const std::optional<MetricKey> chance = metric_named(metric->chance),
                                   oracle = metric_named(metric->oracle);
    bool named = true;
    for (size_t i = 0; i < all.size(); ++i) {
        if (metric->sparse_only && all[i].variant != AttentionKind::sparse) continue;
        const std::string label = label_of(plan, all[i], both);
        const double shift = 0.06 * (static_cast<double>(i) - (static_cast<double>(all.size()) - 1) / 2);
        if (all[i].everywhere)
            draw_level(axes, all[i], metric, label, plot::palette(i));
        else
            draw_points(axes, all[i], metric, label, plot::palette(i), shift);
        if (chance) draw_beside(axes, all[i], *chance, named, plot::palette(i), {4, 3});
        if (oracle) draw_beside(axes, all[i], *oracle, named, plot::palette(i), {1.5, 2});
        named = false;
    }
    mark_failures(axes, all);
}

void write_study_figure(const std::string& path, const StudyPlan& plan, const std::vector<StudyRun>& runs) {
    std::vector<MetricKey> shown;
    const bool any_sparse = std::any_of(
        runs.begin(), runs.end(), [](const StudyRun& run) { return run.variant == AttentionKind::sparse; });
    for (const MetricKey metric : run_metrics())
        if ((any_sparse || !metric->sparse_only) && !stands_beside_another(metric)) shown.push_back(metric);
    const int columns = any_sparse ? 4 : 3, count = static_cast<int>(shown.size());
    const int rows = (count + columns - 1) / columns;
    plot::Figure figure(rows, columns, {columns * 310.0, rows * 290.0});
    figure.title = fmt::format("{}, {} preset", plan.title, plan.base.preset);
    if (plan.seeds > 1)
        figure.title += fmt::format(": mean and standard deviation over {} seeds", plan.seeds);
    for (int i = 0; i < count; ++i)
        draw_study_metric(figure.at(i / columns, i % columns), plan, runs, shown[static_cast<size_t>(i)]);
    figure.save(path);
}

}  // namespace sieve
