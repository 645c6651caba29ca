#include "framework/train/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

namespace sieve {
namespace {

using Json = nlohmann::ordered_json;

template <class Wanted>
std::vector<MetricKey> metrics_that(const Wanted& wanted) {
    std::vector<MetricKey> found;
    for (size_t i = 0; i < metric_count; ++i)
        if (wanted(metric_table[i])) found.push_back(MetricKey::at(i));
    return found;
}

}  // namespace

std::vector<MetricKey> all_metrics() {
    return metrics_that([](const Metric&) { return true; });
}

std::vector<MetricKey> evaluation_metrics() {
    return metrics_that([](const Metric& m) { return m.kept == Kept::each_evaluation; });
}

std::vector<MetricKey> logged_metrics() {
    return metrics_that([](const Metric& m) { return m.tag != nullptr; });
}

std::vector<MetricKey> run_metrics() {
    return metrics_that([](const Metric& m) { return m.of_run != OfRun::nothing; });
}

std::string column_title(MetricKey metric) {
    return *metric->unit ? fmt::format("{}, {}", metric->title, metric->unit) : metric->title;
}

std::string text_in_line(MetricKey metric, double value) {
    return fmt::format(fmt::runtime(metric->line), metric->factor * value);
}

void Measurement::set_layers(MetricKey metric, std::vector<double> by_layer) {
    const double sum = std::accumulate(by_layer.begin(), by_layer.end(), 0.0);
    (*this)[metric] = by_layer.empty() ? NAN : sum / static_cast<double>(by_layer.size());
    layers_[metric.index()] = std::move(by_layer);
}

void Measurement::add(const Measurement& other) {
    for (const MetricKey metric : all_metrics()) {
        if (std::isnan(other[metric])) continue;
        (*this)[metric] = other[metric];
        layers_[metric.index()] = other.layers(metric);
    }
}

double TrainingHistory::last(MetricKey metric) const {
    const std::vector<double>& series = (*this)[metric];
    return series.empty() ? NAN : series.back();
}

void TrainingHistory::note_evaluation(int64_t step, const Measurement& measured) {
    const size_t before = steps.size();
    steps.push_back(step);
    for (const MetricKey metric : evaluation_metrics()) {
        std::vector<double>& series = (*this)[metric];
        if (series.empty() && std::isnan(measured[metric])) continue;
        series.resize(before, NAN);  // a metric that is younger than the checkpoint
        series.push_back(measured[metric]);
        const std::vector<double>& by_layer = measured.layers(metric);
        if (!metric->layers || (by_layer.empty() && layers(metric).empty())) continue;
        const size_t count = by_layer.empty() ? layers(metric).front().size() : by_layer.size();
        layers(metric).resize(before, std::vector<double>(count, NAN));
        layers(metric).push_back(by_layer.empty() ? std::vector<double>(count, NAN) : by_layer);
    }
}

Measurement TrainingHistory::of_run() const {
    Measurement run;
    for (const MetricKey metric : run_metrics()) {
        if (metric->of_run == OfRun::last) run[metric] = last(metric);
        if (metric->of_run == OfRun::median) run[metric] = median_of((*this)[metric]);
    }
    run["peak_memory_bytes"] = static_cast<double>(peak_memory_bytes);
    return run;
}

double median_of(std::vector<double> values) {
    if (values.empty()) return NAN;
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

namespace {

// JSON has no NaN; it is written as null.
std::vector<double> numbers_of(const Json& json) {
    std::vector<double> numbers;
    for (const Json& value : json) numbers.push_back(value.is_null() ? NAN : value.get<double>());
    return numbers;
}

// One list of the numbers that are no series serves writing and reading.
template <class History, class F>
void for_each_total(History& h, F&& f) {
    f("training_seconds", h.training_seconds);
    f("warmup_seconds", h.warmup_seconds);
    f("total_seconds", h.total_seconds);
    f("peak_memory_bytes", h.peak_memory_bytes);
}

}  // namespace

Json state_of_history(const TrainingHistory& history) {
    Json json{{"steps", history.steps}};
    for (const MetricKey metric : all_metrics()) {
        if (metric->kept == Kept::nowhere || (metric->optional && history[metric].empty())) continue;
        json[metric->name] = history[metric];
        if (metric->layers) json[metric->layers] = history.layers(metric);
    }
    for_each_total(history, [&](const char* name, const auto& value) { json[name] = value; });
    return json;
}

TrainingHistory history_from_state(const Json& json) {
    TrainingHistory history;
    json.at("steps").get_to(history.steps);
    for (const MetricKey metric : all_metrics()) {
        if (metric->kept == Kept::nowhere || (metric->optional && !json.contains(metric->name))) continue;
        history[metric] = numbers_of(json.at(metric->name));
        if (metric->layers && json.contains(metric->layers))
            for (const Json& by_layer : json.at(metric->layers))
                history.layers(metric).push_back(numbers_of(by_layer));
    }
    for_each_total(history, [&](const char* name, auto& value) { json.at(name).get_to(value); });
    return history;
}

}  // namespace sieve
