// What a study found: JSON, tables, and the summary on the terminal.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/program/progress.h"
#include "framework/runs/study.h"

namespace sieve {

Spread spread_of(const std::vector<double>& values) {
    Spread spread;
    double sum = 0, squares = 0;
    for (const double v : values)
        if (!std::isnan(v)) sum += v, ++spread.count;
    if (spread.count == 0) return spread;
    spread.mean = sum / static_cast<double>(spread.count);
    if (spread.count < 2) return spread;
    for (const double v : values)
        if (!std::isnan(v)) squares += (v - spread.mean) * (v - spread.mean);
    spread.deviation = std::sqrt(squares / static_cast<double>(spread.count - 1));
    return spread;
}

MetricKey ranking_metric(const StudyPlan& plan) {
    for (const VariedKey& key : plan.varied)
        if (key.name == "vocab_size" || key.name == "tokenizer") return "val_bits_per_byte";
    return "val_loss";
}

Spread Combination::spread(MetricKey metric) const {
    std::vector<double> measured;
    for (const Measurement& run : finished) measured.push_back(run[metric]);
    return spread_of(measured);
}

std::vector<Combination> combinations_of(const std::vector<StudyRun>& runs) {
    std::vector<Combination> combinations;
    for (const StudyRun& run : runs) {
        auto at = std::find_if(combinations.begin(), combinations.end(), [&](const Combination& c) {
            return c.variant == run.variant && c.values == run.values;
        });
        if (at == combinations.end())
            at = combinations.insert(at, {.variant = run.variant, .values = run.values});
        if (run.status == RunStatus::failed) ++at->failed;
        if (run.status == RunStatus::finished) at->finished.push_back(run.metrics);
    }
    return combinations;
}

const Combination* best_combination(const StudyPlan& plan, const std::vector<Combination>& combinations,
                                    AttentionKind variant) {
    const MetricKey metric = ranking_metric(plan);
    const Combination* best = nullptr;
    for (const Combination& c : combinations) {
        const double mean = c.spread(metric).mean;
        if (c.variant != variant || std::isnan(mean)) continue;
        if (!best || mean < best->spread(metric).mean) best = &c;
    }
    return best;
}

namespace {

using Json = nlohmann::ordered_json;

// null: there is nothing that was measured.
Json measured(double value, bool is_measured) {
    return is_measured ? json_number(value) : Json();
}

// The value as it stands in a config.json: a number, a text or a truth value.
Json typed_value(const std::string& key, const std::string& text) {
    ExperimentConfig config;
    const ConfigValue value = config_key(config, key).value;
    set_from_text(value, key, text);
    return json_of(value);
}

Json values_json(const StudyPlan& plan, const std::vector<std::string>& values) {
    Json json = Json::object();
    for (size_t i = 0; i < plan.varied.size(); ++i)
        if (!values[i].empty()) json[plan.varied[i].name] = typed_value(plan.varied[i].name, values[i]);
    return json;
}

Json combination_json(const StudyPlan& plan, const Combination& combination) {
    Json json{{"variant", name_of(combination.variant)},
              {"values", values_json(plan, combination.values)},
              {"finished", combination.finished.size()},
              {"failed", combination.failed}};
    for (const MetricKey metric : run_metrics()) {
        if (metric->sparse_only && combination.variant != AttentionKind::sparse) continue;
        const Spread spread = combination.spread(metric);
        json[metric->name] = {{"mean", measured(spread.mean, spread.count > 0)},
                              {"std", measured(spread.deviation, spread.count > 1)}};
    }
    return json;
}

Json run_json(const StudyPlan& plan, const StudyRun& run) {
    Json json{{"variant", name_of(run.variant)},
              {"values", values_json(plan, run.values)},
              {"seed", run.config.seed},
              {"status", name_of(run.status)}};
    if (run.status == RunStatus::failed) {
        json["error"] = run.error;
        json["message"] = run.message;
    }
    if (run.status == RunStatus::finished)
        for (const MetricKey metric : run_metrics())
            if (!metric->sparse_only || run.variant == AttentionKind::sparse)
                json[metric->name] = measured(run.metrics[metric], !std::isnan(run.metrics[metric]));
    json["folder"] = run.folder;
    return json;
}

// A cell of a CSV file: quoted where commas, quotes or line ends demand it.
std::string csv_cell(const std::string& text) {
    if (text.find_first_of(",\"\n") == std::string::npos) return text;
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    return quoted + "\"";
}

std::string csv_number(double value, bool is_measured) {
    return is_measured ? fmt::format("{}", value) : "";
}

std::string csv_line(const std::vector<std::string>& cells) {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) line += (i ? "," : "") + csv_cell(cells[i]);
    return line + "\n";
}

std::vector<std::string> first_columns(const StudyPlan& plan) {
    std::vector<std::string> cells{"variant"};
    for (const VariedKey& key : plan.varied) cells.push_back(key.name);
    return cells;
}

std::vector<std::string> first_cells(AttentionKind variant, const std::vector<std::string>& values) {
    std::vector<std::string> cells{name_of(variant)};
    cells.insert(cells.end(), values.begin(), values.end());
    return cells;
}

std::string summary_csv(const StudyPlan& plan, const std::vector<StudyRun>& runs) {
    std::vector<std::string> header = first_columns(plan);
    header.insert(header.end(), {"finished", "failed"});
    for (const MetricKey metric : run_metrics())
        for (const char* what : {"mean", "std"}) header.push_back(fmt::format("{}_{}", metric->name, what));
    std::string text = csv_line(header);
    for (const Combination& combination : combinations_of(runs)) {
        std::vector<std::string> cells = first_cells(combination.variant, combination.values);
        cells.push_back(fmt::format("{}", combination.finished.size()));
        cells.push_back(fmt::format("{}", combination.failed));
        for (const MetricKey metric : run_metrics()) {
            const Spread spread = combination.spread(metric);
            cells.insert(cells.end(), {csv_number(spread.mean, spread.count > 0),
                                       csv_number(spread.deviation, spread.count > 1)});
        }
        text += csv_line(cells);
    }
    return text;
}

std::string runs_csv(const StudyPlan& plan, const std::vector<StudyRun>& runs) {
    std::vector<std::string> header = first_columns(plan);
    header.insert(header.end(), {"seed", "status"});
    for (const MetricKey metric : run_metrics()) header.emplace_back(metric->name);
    header.insert(header.end(), {"error", "message"});
    std::string text = csv_line(header);
    for (const StudyRun& run : runs) {
        std::vector<std::string> cells = first_cells(run.variant, run.values);
        cells.insert(cells.end(), {fmt::format("{}", run.config.seed), name_of(run.status)});
        for (const MetricKey metric : run_metrics())
            cells.push_back(csv_number(run.metrics[metric], !std::isnan(run.metrics[metric])));
        cells.insert(cells.end(), {run.error, run.message});
        text += csv_line(cells);
    }
    return text;
}

// "4.0811 ± 0.0021", "4.0811" of one run, "-" of none.
std::string spread_text(const Spread& spread, MetricKey metric) {
    if (spread.count == 0) return "-";
    const double mean = metric->factor * spread.mean, deviation = metric->factor * spread.deviation;
    const bool tiny = mean != 0 && std::abs(mean) < 10 * std::pow(10, -metric->decimals);
    const auto text = [&](double v) {
        return tiny ? fmt::format("{:.2g}", v) : number_text(fmt::format("{{:.{}f}}", metric->decimals), v);
    };
    return spread.count < 2 ? text(mean) : fmt::format("{} ± {}", text(mean), text(deviation));
}

size_t display_width(const std::string& text) {
    return static_cast<size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

void print_columns(const std::vector<std::vector<std::string>>& rows) {
    std::vector<size_t> widths(rows.front().size());
    for (const auto& row : rows)
        for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
    for (const auto& row : rows) {
        std::string line;
        for (size_t i = 0; i < row.size(); ++i)
            line += "  " + row[i] + std::string(widths[i] - display_width(row[i]), ' ');
        fmt::print("{}\n", line.substr(0, line.find_last_not_of(' ') + 1));
    }
}

// "lowest bits per byte: sparse, vocab_size = 2048 (2.7800 ± 0.0100)", of each variant.
void print_best(const StudyPlan& plan, const std::vector<Combination>& combinations) {
    const MetricKey metric = ranking_metric(plan);
    for (const AttentionKind variant : plan.variants) {
        const Combination* best = best_combination(plan, combinations, variant);
        if (!best) continue;
        std::string label = name_of(variant);
        for (size_t i = 0; i < plan.varied.size(); ++i)
            if (!best->values[i].empty())
                label += fmt::format(", {} = {}", plan.varied[i].name, best->values[i]);
        fmt::print("  lowest {}: {} ({})\n", metric->title, label, spread_text(best->spread(metric), metric));
    }
    if (metric == MetricKey("val_bits_per_byte"))
        fmt::print("  (a loss per token says nothing across vocabularies: their tokens differ in length)\n");
}

}  // namespace

Json study_json(const StudyPlan& plan, const std::vector<StudyRun>& runs) {
    Json json{{"title", plan.title}};
    for (const VariedKey& key : plan.varied) {
        Json values = Json::array();
        for (const std::string& value : key.values) values.push_back(typed_value(key.name, value));
        json["varied"][key.name] = values;
    }
    for (const AttentionKind variant : plan.variants) json["variants"].push_back(name_of(variant));
    json["seeds"] = plan.seeds;
    json["ranked_by"] = ranking_metric(plan)->name;
    json["config"] = config_to_json(plan.base);
    json["config"].erase("attention");
    json["combinations"] = Json::array();
    for (const Combination& combination : combinations_of(runs))
        json["combinations"].push_back(combination_json(plan, combination));
    json["runs"] = Json::array();
    for (const StudyRun& run : runs) json["runs"].push_back(run_json(plan, run));
    return json;
}

void write_study_files(const StudyPlan& plan, const std::vector<StudyRun>& runs) {
    write_json_atomic(plan.folder + "/study.json", study_json(plan, runs));
    write_file_atomic(plan.folder + "/summary.csv", summary_csv(plan, runs));
    write_file_atomic(plan.folder + "/runs.csv", runs_csv(plan, runs));
}

void print_study(const StudyPlan& plan, const std::vector<StudyRun>& runs) {
    const std::vector<Combination> combinations = combinations_of(runs);
    const bool any_sparse = std::any_of(combinations.begin(), combinations.end(), [](const Combination& c) {
        return c.variant == AttentionKind::sparse;
    });
    const auto shown = [&](MetricKey metric) {
        // Of the selections what an evaluation's line shows; the rest is in summary.csv.
        return metric->sparse_only ? any_sparse && metric->line : metric != MetricKey("val_perplexity");
    };
    std::vector<std::vector<std::string>> rows{first_columns(plan)};
    rows[0].push_back("runs");
    for (const MetricKey metric : run_metrics())
        if (shown(metric)) rows[0].push_back(column_title(metric));
    for (const Combination& combination : combinations) {
        rows.push_back(first_cells(combination.variant, combination.values));
        for (std::string& cell : rows.back())
            if (cell.empty()) cell = "-";
        rows.back().push_back(fmt::format("{}", combination.finished.size()));
        for (const MetricKey metric : run_metrics())
            if (shown(metric)) rows.back().push_back(spread_text(combination.spread(metric), metric));
    }
    fmt::print("\n");
    print_columns(rows);
    if (plan.seeds > 1) fmt::print("  mean ± standard deviation over the seeds\n");
    print_best(plan, combinations);
    for (const StudyRun& run : runs)
        if (run.status == RunStatus::failed)
            fmt::print("  failed: {} model, {}: {}\n", name_of(run.variant), label_of(plan, run),
                       run.message);
}

}  // namespace sieve
