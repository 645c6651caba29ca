#include "framework/train/metrics_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "framework/io/atomic_file.h"
#include "framework/io/event_file.h"
#include "framework/io/json_file.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

constexpr const char* event_file_prefix = "events.out.tfevents.";

std::string json_line(const MetricsRow& row) {
    std::string line = fmt::format("{{\"stage\": \"{}\", \"step\": {}, \"time\": {:.3f}", name_of(row.stage),
                                   row.step, row.time);
    for (const MetricKey metric : logged_metrics())
        if (!std::isnan(row.numbers[metric]))
            line += fmt::format(", \"{}\": {}", metric->name, json_number(row.numbers[metric]).dump());
    return line + "}\n";
}

std::string csv_header() {
    std::string line = "stage,step,time";
    for (const MetricKey metric : logged_metrics()) line += fmt::format(",{}", metric->name);
    return line + "\n";
}

std::string csv_line(const MetricsRow& row) {
    std::string line = fmt::format("{},{},{:.3f}", name_of(row.stage), row.step, row.time);
    for (const MetricKey metric : logged_metrics())
        line += std::isnan(row.numbers[metric]) ? "," : fmt::format(",{}", row.numbers[metric]);
    return line + "\n";
}

// Warm-up and training both count their steps from 1, so the warm-up has tags of its own.
std::string event_of(const MetricsRow& row) {
    std::vector<Scalar> scalars;
    for (const MetricKey metric : logged_metrics())
        if (!std::isnan(row.numbers[metric]))
            scalars.push_back(
                {row.stage == StageKind::warmup ? fmt::format("warm-up/{}", metric->name) : metric->tag,
                 row.numbers[metric]});
    return scalar_event(row.time, row.step, scalars);
}

double seconds_since_1970() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

template <class ToText>
std::unique_ptr<AppendFile> begin_file(const std::string& path, std::string text,
                                       const std::vector<MetricsRow>& rows, ToText to_text) {
    for (const MetricsRow& row : rows) text += to_text(row);
    write_file_atomic(path, text);
    return std::make_unique<AppendFile>(path);
}

std::optional<MetricsRow> parse_row(const std::string& line) {
    try {
        const auto json = parse_json(line, "metrics.jsonl");
        MetricsRow row{.stage = value_named<StageKind>(json.at("stage").get<std::string>()).value(),
                       .step = whole_number_in(json.at("step")).value(),
                       .time = number_in(json.at("time")).value()};
        for (const MetricKey metric : logged_metrics())
            row.numbers[metric] = number_in(json.value(metric->name, nlohmann::ordered_json())).value();
        return row;
    } catch (const std::exception&) {  // torn, or not ours
        return std::nullopt;
    }
}

// What comes after the last line end is torn.
template <class F>
void for_each_line(std::string_view text, F&& f) {
    size_t begin = 0;
    for (size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n', begin)) {
        f(text.substr(begin, end - begin));
        begin = end + 1;
    }
}

constexpr size_t shortest_row = std::string_view(R"({"stage":"","step":0,"time":0})").size();

size_t count_possible_rows(std::string_view text) {
    size_t count = 0;
    for_each_line(text, [&](std::string_view line) { count += line.size() >= shortest_row; });
    return count;
}

}  // namespace

std::vector<std::string> event_files(const std::string& folder) {
    std::vector<std::string> names = names_in(folder);
    std::erase_if(names, [](const std::string& name) { return !name.starts_with(event_file_prefix); });
    return names;
}

std::vector<MetricsRow> read_metrics(const std::string& folder) {
    const std::string path = folder + "/metrics.jsonl";
    std::vector<MetricsRow> rows;
    if (!fs::exists(path)) return rows;
    const std::string text = read_file(path);
    const size_t possible = count_possible_rows(text);
    MemoryBudget(text.size(), path).take(possible * sizeof(MetricsRow));
    rows.reserve(possible);
    for_each_line(text, [&](std::string_view line) {
        if (line.size() < shortest_row) return;
        if (const auto row = parse_row(std::string(line))) rows.push_back(*row);
    });
    return rows;
}

std::vector<MetricsRow> rows_until(std::vector<MetricsRow> rows, StageKind stage, int64_t step) {
    std::erase_if(
        rows, [&](const MetricsRow& row) { return std::pair(row.stage, row.step) > std::pair(stage, step); });
    return rows;
}

MetricsLog::MetricsLog(const std::string& folder, bool tensorboard, const std::vector<MetricsRow>& kept)
    : jsonl_(begin_file(folder + "/metrics.jsonl", "", kept, json_line)),
      csv_(begin_file(folder + "/metrics.csv", csv_header(), kept, csv_line)) {
    for (const std::string& earlier : event_files(folder)) remove_file(folder + "/" + earlier);
    if (!tensorboard) return;
    const double now = seconds_since_1970();
    events_ = begin_file(fmt::format("{}/{}{}.sieve", folder, event_file_prefix, static_cast<int64_t>(now)),
                         event_file_header(now), kept, event_of);
}

void MetricsLog::append(MetricsRow row) {
    row.time = seconds_since_1970();
    jsonl_->append(json_line(row));
    csv_->append(csv_line(row));
    if (events_) events_->append(event_of(row));
}

void MetricsLog::sync() {
    for (const auto* file : {&jsonl_, &csv_, &events_})
        if (*file) (*file)->sync();
}

}  // namespace sieve
