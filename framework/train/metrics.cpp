#include "framework/train/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "framework/core/error.h"
#include "framework/io/json_file.h"
#include "framework/program/progress.h"

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
    return number_text(metric->line, metric->factor * value);
}

std::optional<MetricKey> metric_named(const char* name) {
    for (const MetricKey metric : all_metrics())
        if (name && std::string_view(name) == metric->name) return metric;
    return std::nullopt;
}

bool stands_beside_another(MetricKey metric) {
    return !metrics_that([&](const Metric& other) {
                return metric_named(other.chance) == metric || metric_named(other.oracle) == metric;
            }).empty();
}

void Measurement::set_layers(MetricKey metric, std::vector<double> by_layer) {
    double sum = 0, count = 0;
    for (const double value : by_layer) {
        if (std::isnan(value)) continue;
        sum += value;
        count += 1;
    }
    (*this)[metric] = sum / count;  // of none NaN
    layers_[metric.index()] = std::move(by_layer);
}

void Measurement::set_sources(MetricKey metric, std::vector<double> by_source) {
    layers_[metric.index()] = std::move(by_source);
}

const std::vector<double>& Measurement::layers(MetricKey metric) const {
    static const std::vector<double> none;
    const auto found = layers_.find(metric.index());
    return found == layers_.end() ? none : found->second;
}

void Measurement::add(const Measurement& other) {
    for (const MetricKey metric : all_metrics()) {
        if (std::isnan(other[metric])) continue;
        (*this)[metric] = other[metric];
        layers_.erase(metric.index());
        if (!other.layers(metric).empty()) layers_[metric.index()] = other.layers(metric);
    }
}

Measurement measurement_of_layers(const std::vector<Measurement>& layers) {
    Measurement all;
    for (const MetricKey metric : all_metrics()) {
        std::vector<double> values;
        values.reserve(layers.size());
        for (const Measurement& layer : layers) values.push_back(layer[metric]);
        if (!std::all_of(values.begin(), values.end(), [](double v) { return std::isnan(v); }))
            all.set_layers(metric, std::move(values));
    }
    return all;
}

namespace {

// " (chance 0.690)", where that number is not in the line itself.
std::string chance_in_line(MetricKey metric, const Measurement& measured) {
    const std::optional<MetricKey> chance = metric_named(metric->chance);
    return !chance || (*chance)->line || std::isnan(measured[*chance])
               ? ""
               : fmt::format(" (chance {:.3f})", measured[*chance]);
}

std::string line_of(const Measurement& measured, bool of_selections, const char* separator) {
    std::vector<std::string> parts;
    for (const MetricKey metric : evaluation_metrics())
        if (metric->line && metric->sparse_only == of_selections && !std::isnan(measured[metric]))
            parts.push_back(text_in_line(metric, measured[metric]) + chance_in_line(metric, measured));
    return fmt::format("{}", fmt::join(parts, separator));
}

}  // namespace

std::string model_line(const Measurement& measured) {
    return line_of(measured, false, " | ");
}

std::string selection_line(const Measurement& measured) {
    return line_of(measured, true, ", ");
}

Measurement TrainingHistory::last_evaluation() const {
    Measurement measured;
    for (const MetricKey metric : evaluation_metrics()) measured[metric] = last(metric);
    return measured;
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

Json json_of(double value) {
    return std::isnan(value) ? Json() : json_number(value);  // NaN: not measured
}

Json json_of(const std::vector<double>& values) {
    Json json = Json::array();
    for (const double value : values) json.push_back(json_of(value));
    return json;
}

Json json_of(const std::vector<std::vector<double>>& by_layer) {
    Json json = Json::array();
    for (const std::vector<double>& values : by_layer) json.push_back(json_of(values));
    return json;
}

// One list of the numbers that are no series serves writing and reading.
template <class History, class F>
void for_each_total(History& h, F&& f) {
    f("training_seconds", h.training_seconds);
    f("warmup_seconds", h.warmup_seconds);
    f("total_seconds", h.total_seconds);
    f("peak_memory_bytes", h.peak_memory_bytes);
}

// Reads a history and believes nothing.
class HistoryReader {
  public:
    HistoryReader(const Json& json, const std::string& source) : json_(json), source_(source) {}

    TrainingHistory read() {
        if (!json_.is_object()) fail_bad_file(source_ + ": want one JSON object");
        read_steps();
        for (const MetricKey metric : all_metrics()) {
            if (metric->kept == Kept::nowhere || (metric->optional && !json_.contains(metric->name)))
                continue;
            read_series(metric);
            if (metric->layers && json_.contains(metric->layers)) read_layers(metric);
        }
        for_each_total(history_, [&](const char* name, auto& value) { read_total(name, value); });
        return std::move(history_);
    }

  private:
    [[noreturn]] void refuse(const std::string& key, const Json& value, const std::string& wanted) const {
        fail_bad_file(fmt::format("{}: {} is {}, want {}", source_, key, shown(value), wanted));
    }

    const Json& at(const char* key) const {
        if (!json_.contains(key))
            fail_bad_file(fmt::format("{}: has no {}; is it of another version?", source_, key));
        return json_.at(key);
    }

    const Json& list_at(const char* key) const {
        const Json& list = at(key);
        if (!list.is_array()) refuse(key, list, "a list");
        return list;
    }

    void read_steps() {
        for (const Json& value : list_at("steps")) {
            const std::optional<int64_t> step = whole_number_in(value);
            const int64_t before = history_.steps.empty() ? 0 : history_.steps.back();
            if (!step || *step <= before)
                refuse(fmt::format("steps[{}]", history_.steps.size()), value,
                       fmt::format("a step after step {}", before));
            history_.steps.push_back(*step);
        }
    }

    std::vector<double> numbers_of(const Json& list, const std::string& key) const {
        std::vector<double> numbers;
        for (const Json& value : list) {
            const std::optional<double> number = number_in(value);
            if (!number) refuse(fmt::format("{}[{}]", key, numbers.size()), value, "a number");
            numbers.push_back(*number);
        }
        return numbers;
    }

    // Nothing at all, or one for each evaluation.
    void check_length(const char* key, size_t length) const {
        if (length > 0 && length != history_.steps.size())
            fail_bad_file(
                fmt::format("{}: {} steps but {} values of {}", source_, history_.steps.size(), length, key));
    }

    void read_series(MetricKey metric) {
        history_[metric] = numbers_of(list_at(metric->name), metric->name);
        if (metric->kept == Kept::each_evaluation) check_length(metric->name, history_[metric].size());
    }

    void read_layers(MetricKey metric) {
        std::vector<std::vector<double>>& all = history_.layers(metric);
        for (const Json& list : list_at(metric->layers)) {
            const std::string key = fmt::format("{}[{}]", metric->layers, all.size());
            if (!list.is_array()) refuse(key, list, "a list");
            all.push_back(numbers_of(list, key));
            if (all.back().size() != all.front().size())
                fail_bad_file(fmt::format("{}: {} has {} layers, {}[0] has {}", source_, key,
                                          all.back().size(), metric->layers, all.front().size()));
        }
        check_length(metric->layers, all.size());
    }

    void read_total(const char* key, double& value) const {
        const std::optional<double> number = number_in(at(key));
        if (!number || !std::isfinite(*number) || *number < 0) refuse(key, at(key), "a number of at least 0");
        value = *number;
    }

    void read_total(const char* key, int64_t& value) const {
        const std::optional<int64_t> number = whole_number_in(at(key));
        if (!number || *number < 0) refuse(key, at(key), "a whole number of at least 0");
        value = *number;
    }

    const Json& json_;
    const std::string& source_;
    TrainingHistory history_;
};

}  // namespace

Json state_of_history(const TrainingHistory& history) {
    Json json{{"steps", history.steps}};
    for (const MetricKey metric : all_metrics()) {
        if (metric->kept == Kept::nowhere || (metric->optional && history[metric].empty())) continue;
        json[metric->name] = json_of(history[metric]);
        if (metric->layers) json[metric->layers] = json_of(history.layers(metric));
    }
    for_each_total(history, [&](const char* name, const auto& value) { json[name] = value; });
    return json;
}

TrainingHistory history_from_state(const Json& json, const std::string& source) {
    return HistoryReader(json, source).read();
}

void check_history(const TrainingHistory& h, int64_t warmup_steps, int64_t steps, const std::string& source) {
    const auto require = [&](const char* key, int64_t length, int64_t wanted) {
        if (length != wanted)
            fail_bad_file(fmt::format("{}: {} steps done, but {} values of {}", source, wanted, length, key));
    };
    require("warmup_loss", static_cast<int64_t>(h["warmup_loss"].size()), warmup_steps);
    require("step_loss", static_cast<int64_t>(h["step_loss"].size()), steps);
    if (!h.steps.empty() && h.steps.back() > steps)
        fail_bad_file(
            fmt::format("{}: an evaluation at step {}, but {} steps done", source, h.steps.back(), steps));
}

}  // namespace sieve
