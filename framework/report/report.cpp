#include "framework/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/html.h"
#include "framework/io/json_file.h"
#include "framework/program/progress.h"
#include "framework/report/report_page.h"
#include "framework/report/results.h"
#include "framework/train/manifest.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Number = std::optional<double>;

// ---- reading

// The number at a place such as "/performance/classic/val_loss".
double number_at(const Json& json, const std::string& place, const std::string& path) {
    const Json::json_pointer pointer(place);
    if (!json.contains(pointer))
        fail_bad_file(fmt::format("{}: has no {}; is it of another version?", path, place));
    const Json& value = json.at(pointer);
    const Number number = number_in(value);
    if (!number) fail_bad_file(fmt::format("{}: {} is {}, want a number", path, place, shown(value)));
    return *number;
}

// A value as a person writes it: a text without quotes.
std::string plain(const Json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string text_at(const Json& json, const char* key) {
    return json.is_object() && json.contains(key) ? plain(json.at(key)) : "";
}

Number last_of(const std::vector<double>& values) {
    return values.empty() ? Number() : Number(values.back());
}

// One variant's files; what is missing is null or empty.
struct Run {  // NOLINT(bugprone-exception-escape): moving a Json does not throw
    Json results, config;
    std::optional<TrainingHistory> history;
    std::optional<ExperimentConfig> settings;  // what `config` says
    std::optional<Manifest> manifest;
};

// ---- tables

Cell number_cell(Number value, const char* format) {
    if (!value || std::isnan(*value)) return {"–"};
    return {number_text(format, *value), value};
}

Cell difference_cell(Number classic, Number sparse) {
    if (!classic || !sparse) return {"–"};
    const double percent = 100 * (*sparse / *classic - 1);
    return number_cell(std::isfinite(percent) ? Number(percent) : Number(), "{:+.2f} %");
}

// Rows that show the same measure of both variants.
class Comparison {
  public:
    Comparison(const Run& classic, const Run& sparse) : classic_(classic), sparse_(sparse) {}

    template <class Measure>
    void add(const std::string& what, const char* format, const Measure& measure) {
        const Number classic = measured(classic_, measure), sparse = measured(sparse_, measure);
        table_.rows.push_back({{what},
                               number_cell(classic, format),
                               number_cell(sparse, format),
                               difference_cell(classic, sparse)});
    }
    std::string html() const { return table_html(table_); }

  private:
    template <class Measure>
    static Number measured(const Run& run, const Measure& measure) {
        return run.history ? Number(measure(*run.history)) : Number();
    }
    const Run &classic_, &sparse_;
    Table table_{{"measure", "classic", "sparse", "difference"}, {}};
};

std::string quality_table(const Run& classic, const Run& sparse) {
    using History = const TrainingHistory&;
    Comparison table(classic, sparse);
    table.add("validation loss, nats per token", "{:.4f}", [](History h) { return h["val_loss"].back(); });
    table.add("… of positions below k, where every key is read", "{:.4f}",
              [](History h) { return h.last("val_loss_below_k"); });
    table.add("… of positions from k on", "{:.4f}", [](History h) { return h.last("val_loss_from_k"); });
    table.add("best validation loss", "{:.4f}",
              [](History h) { return *std::min_element(h["val_loss"].begin(), h["val_loss"].end()); });
    table.add("validation accuracy, %", "{:.2f}", [](History h) { return 100 * h["val_accuracy"].back(); });
    table.add("validation perplexity", "{:.2f}", [](History h) { return h["val_perplexity"].back(); });
    table.add("validation, bits per byte", "{:.3f}", [](History h) { return h.last("val_bits_per_byte"); });
    table.add("training loss, nats per token", "{:.4f}", [](History h) { return h["train_loss"].back(); });
    return table.html();
}

std::string efficiency_table(const Run& classic, const Run& sparse) {
    using History = const TrainingHistory&;
    constexpr double mebibyte = 1 << 20;
    Comparison table(classic, sparse);
    table.add("time per step, ms (median)", "{:.1f}",
              [](History h) { return 1000 * typical_step_seconds(h); });
    table.add("training steps", "{:.0f}",
              [](History h) { return static_cast<double>(h["step_loss"].size()); });
    table.add("time in these steps, s", "{:.1f}", [](History h) { return h.training_seconds; });
    table.add("time in the warm-up, s", "{:.1f}", [](History h) { return h.warmup_seconds; });
    table.add("whole time, s", "{:.1f}", [](History h) { return h.total_seconds; });
    table.add("peak tensor memory, MiB", "{:.1f}",
              [](History h) { return static_cast<double>(h.peak_memory_bytes) / mebibyte; });
    return table.html();
}

// The metrics in an evaluation's line on the terminal, as far as one of the runs measured them.
std::vector<MetricKey> shown_metrics(const Run& classic, const Run& sparse) {
    std::vector<MetricKey> shown = evaluation_metrics();
    std::erase_if(shown, [&](MetricKey metric) {
        const auto measured = [&](const Run& run) { return run.history && !(*run.history)[metric].empty(); };
        return !metric->line || (!measured(classic) && !measured(sparse));
    });
    return shown;
}

void add_evaluations(Table& table, const std::string& model, const TrainingHistory& h,
                     const std::vector<MetricKey>& shown) {
    for (size_t i = 0; i < h.steps.size(); ++i) {
        std::vector<Cell> row = {{model}, number_cell(static_cast<double>(h.steps[i]), "{:.0f}")};
        for (const MetricKey metric : shown) {
            const bool measured = i < h[metric].size() && !std::isnan(h[metric][i]);
            row.push_back(number_cell(measured ? Number(metric->factor * h[metric][i]) : Number(),
                                      fmt::format("{{:.{}f}}", metric->decimals).c_str()));
        }
        table.rows.push_back(std::move(row));
    }
}

std::string evaluations_table(const Run& classic, const Run& sparse) {
    const std::vector<MetricKey> shown = shown_metrics(classic, sparse);
    Table table{{"model", "step"}, {}};
    for (const MetricKey metric : shown) table.columns.push_back(column_title(metric));
    if (classic.history) add_evaluations(table, "classic", *classic.history, shown);
    if (sparse.history) add_evaluations(table, "sparse", *sparse.history, shown);
    if (table.rows.empty()) return "";
    return "<details><summary>Every evaluation of the training</summary>\n" + table_html(table) +
           "</details>\n";
}

std::string criteria_table(const Json& metrics, const std::string& path) {
    if (metrics.is_null()) return "";
    Table table{{"criterion", "wanted", "measured", "result"}, {}};
    for (size_t i = 0; i < metrics.value("success_criteria", Json::array()).size(); ++i) {
        const std::string place = fmt::format("/success_criteria/{}", i);
        const double measured = number_at(metrics, place + "/measured", path);
        const Json& item = metrics.at(Json::json_pointer(place));
        const Json met = item.value("met", Json());
        Cell cell = number_cell(measured, "{:.3f}");
        if (item.contains("lower_quartile"))
            cell.text +=
                fmt::format(" ({:.3f} to {:.3f})", number_at(metrics, place + "/lower_quartile", path),
                            number_at(metrics, place + "/upper_quartile", path));
        const std::string verdict = met.is_null()       ? name_of(Verdict::undecided)
                                    : met == Json(true) ? name_of(Verdict::met)
                                                        : name_of(Verdict::not_met);
        table.rows.push_back({{text_at(item, "criterion")},
                              {text_at(item, "wanted")},
                              cell,
                              {verdict,
                               {},
                               met.is_null()       ? ""
                               : met == Json(true) ? "good"
                                                   : "bad"}});
    }
    return "<p>What the original experiment set out to reach, judged on what was measured here. The speed-up "
           "is the "
           "median of steps that the two models did in turns, with the middle half of the pairs; where that "
           "half holds "
           "the wanted value, the machine was too busy to decide.</p>\n" +
           table_html(table);
}

Cell spread_cell(const Json& statistics, const std::string& place, const char* format,
                 const std::string& path) {
    if (number_at(statistics, place + "/count", path) == 0) return {"–"};
    const double mean = number_at(statistics, place + "/mean", path);
    const double deviation = number_at(statistics, place + "/std", path);
    return {number_text(format, mean) + " ± " + number_text(format, deviation), mean};
}

// "64", or "64,64,32" when it differs from layer to layer.
std::string top_k_at(const Json& statistics, const std::string& path) {
    if (!statistics.contains("top_k") || !statistics.at("top_k").is_array())
        return fmt::format("{:.0f}", number_at(statistics, "/top_k", path));
    std::string text;
    for (size_t layer = 0; layer < statistics.at("top_k").size(); ++layer)
        text += (layer ? "," : "") +
                fmt::format("{:.0f}", number_at(statistics, fmt::format("/top_k/{}", layer), path));
    return text;
}

// A column of a table by layer: a spread over windows, or a plain number.
struct LayerColumn {
    const char* title;
    const char* place;
    const char* format = "{:.3f}";
    bool plain = false;
    bool optional = true;  // files of an earlier version lack it: then it is left out
};

std::string layer_table(const Json& statistics, const std::vector<LayerColumn>& columns,
                        const std::string& path) {
    const Json layers = statistics.value("layers", Json::array());
    std::vector<LayerColumn> shown = columns;
    std::erase_if(shown, [&](const LayerColumn& column) {
        return column.optional && std::none_of(layers.begin(), layers.end(), [&](const Json& layer) {
                   return layer.is_object() && layer.contains(column.place);
               });
    });
    Table table{{"layer"}, {}};
    for (const LayerColumn& column : shown) table.columns.emplace_back(column.title);
    for (size_t i = 0; i < layers.size(); ++i) {
        const std::string layer = fmt::format("/layers/{}/", i);
        std::vector<Cell> row = {number_cell(number_at(statistics, layer + "layer", path), "{:.0f}")};
        for (const LayerColumn& column : shown)
            row.push_back(column.plain
                              ? number_cell(number_at(statistics, layer + column.place, path), column.format)
                              : spread_cell(statistics, layer + column.place, column.format, path));
        table.rows.push_back(std::move(row));
    }
    return table_html(table);
}

std::string statistics_table(const Json& statistics, const std::string& path) {
    if (statistics.is_null()) return "";
    const double windows = number_at(statistics, "/windows", path);
    const std::string top_k = top_k_at(statistics, path);
    const double random = number_at(statistics, "/random_keys", path);
    const std::string html = fmt::format(
        "<p>Mean ± standard deviation over {:.0f} validation windows; the top {} keys of each query. Recall "
        "is "
        "the share of the truly most attended keys that is selected, covered mass the share of dense "
        "attention "
        "that they hold; as many keys picked at random would reach {:.3f} in both, the truly most attended "
        "ones "
        "recall 1 and the oracle's mass. Above chance: 0 for random keys, 1 for the oracle's, over the "
        "queries "
        "with a choice, which are those that see more than {} keys.</p>\n",
        windows, top_k, random, top_k);
    const std::vector<LayerColumn> quality = {
        {.title = "recall", .place = "recall", .optional = false},
        {.title = "covered mass", .place = "covered_mass", .optional = false},
        {.title = "oracle's mass", .place = "oracle_mass"},
        {.title = "random keys", .place = "chance", .plain = true},
        {.title = "recall of queries with a choice", .place = "recall_of_choices", .optional = false},
        {.title = "their covered mass", .place = "covered_mass_of_choices", .optional = false},
        {.title = "oracle's mass", .place = "oracle_mass_of_choices"},
        {.title = "random keys", .place = "chance_of_choices", .plain = true},
        {.title = "recall above chance", .place = "recall_above_chance"},
        {.title = "mass above chance", .place = "mass_above_chance"},
        {.title = "entropy of attention, nats", .place = "entropy"}};
    const std::vector<LayerColumn> repetition = {
        {.title = "sparsity of the triangle", .place = "sparsity", .optional = false},
        {.title = "keys used by some query", .place = "coverage", .optional = false},
        {.title = "keys of the query before", .place = "query_overlap"},
        {.title = "queries that keep key 0", .place = "first_key"},
        {.title = "random keys (the two before)", .place = "chance_of_choices", .plain = true},
        {.title = "selected keys with equal scores", .place = "ties"},
        {.title = "overlap of the indexer's heads, above chance", .place = "heads_overlap"},
        {.title = "distance, tokens", .place = "distance", .format = "{:.1f}", .optional = false}};
    return html + layer_table(statistics, quality, path) + "<p>What the selections repeat:</p>\n" +
           layer_table(statistics, repetition, path);
}

// ---- configuration and commands

std::string config_table(const Run& classic, const Run& sparse) {
    Table table{{"key", "classic", "sparse", "meaning"}, {}};
    ExperimentConfig defaults;
    const std::vector<ConfigKey> keys = config_keys(defaults);
    std::set<std::string> shown;
    for (const Json* config : {&classic.config, &sparse.config}) {
        if (!config->is_object()) continue;
        for (const auto& item : config->items()) {
            const std::string& name = item.key();
            if (!shown.insert(name).second) continue;
            const auto known = std::find_if(keys.begin(), keys.end(),
                                            [&](const ConfigKey& key) { return key.name == name; });
            const std::string a = text_at(classic.config, name.c_str()),
                              b = text_at(sparse.config, name.c_str());
            const bool both = classic.config.is_object() && sparse.config.is_object();
            const std::string style = both && a != b ? "changed" : "";
            table.rows.push_back({{name},
                                  {a, {}, style},
                                  {b, {}, style},
                                  {known == keys.end() ? "" : known->help, {}, "remark"}});
        }
    }
    return table.rows.empty() ? "" : table_html(table);
}

std::string shell_quoted(const std::string& text) {
    const auto plain_character = [](unsigned char c) {
        return std::isalnum(c) ||
               std::string_view("_-./:=,+@").find(static_cast<char>(c)) != std::string_view::npos;
    };
    if (!text.empty() && std::all_of(text.begin(), text.end(), plain_character)) return text;
    std::string quoted = "'";
    for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return quoted + "'";
}

// The flags that differ from the preset's defaults.
std::string flags_of(ExperimentConfig config) {
    ExperimentConfig preset;
    std::string flags;
    try {
        apply_preset(preset, config.preset);
        flags = " --preset " + config.preset;
    } catch (const Error&) {  // a preset that this program does not know: every other key is a flag
    }
    const std::vector<ConfigKey> keys = config_keys(config), defaults = config_keys(preset);
    for (size_t i = 0; i < keys.size(); ++i) {
        const std::string value = text_of(keys[i].value);
        if (keys[i].saved() && value != text_of(defaults[i].value))
            flags += fmt::format(" --{} {}", keys[i].name, shell_quoted(value));
    }
    return flags;
}

bool same_but_for_attention(Json a, Json b) {
    a.erase("attention");
    b.erase("attention");
    return a == b;
}

// The command that runs some stages with these settings; without settings, the defaults.
std::string train_command(const std::optional<ExperimentConfig>& settings, const std::string& folder,
                          const std::string& stages) {
    std::string command = "./experiments/exp4";
    if (settings) command += flags_of(*settings);
    if (folder != "results") command += " --results_dir " + shell_quoted(folder);
    return command + (stages.empty() ? "" : " --stages " + stages);
}

std::string draw_command(const std::string& folder) {
    return fmt::format("./tools/visualize {} --layer all", shell_quoted(folder + "/sparse"));
}

std::string commands(const Run& classic, const Run& sparse, const std::string& folder) {
    std::vector<std::string> lines = {"make"};
    if (classic.settings && sparse.settings && same_but_for_attention(classic.config, sparse.config)) {
        lines.push_back(train_command(sparse.settings, folder, ""));
    } else {
        if (classic.settings) lines.push_back(train_command(classic.settings, folder, "classic"));
        if (sparse.settings) lines.push_back(train_command(sparse.settings, folder, "sparse"));
        if (classic.settings && sparse.settings)
            lines.push_back(train_command(sparse.settings, folder, "compare"));
    }
    if (sparse.settings) lines.push_back(draw_command(folder));
    lines.push_back(fmt::format("./tools/visualize {} --report", shell_quoted(folder)));
    std::string html = "<pre>";
    for (const std::string& line : lines) html += escape_html(line) + "\n";
    return html + "</pre>\n";
}

// ---- the page

// "cpu, precision fp32, threads 2"; empty when the results do not say.
std::string machine_of(const Json& results) {
    std::string text = text_at(results, "device");
    if (text.empty()) return text;
    for (const char* key : {"precision", "threads"})
        if (const std::string value = text_at(results, key); !value.empty())
            text += fmt::format(", {} {}", key, value);
    return text;
}

// What trained the two models, once when it was the same.
std::string trained_on(const Json& classic, const Json& sparse) {
    const std::string a = machine_of(classic), b = machine_of(sparse);
    if (a.empty() && b.empty()) return "";
    std::string text = a.empty() ? b : a;
    if (!a.empty() && !b.empty() && a != b) text = fmt::format("{} (classic); {} (sparse)", a, b);
    return fmt::format("<p class=\"muted\">Trained on: {}</p>\n", escape_html(text));
}

// What made each variant's files: a row a process that worked on it, and below it its command line.
std::string runs_table(const Run& classic, const Run& sparse) {
    Table table{.columns = {"model", "started", "version", "processor", "device", "kernels", "threads"},
                .rows = {}};
    std::string notes, commands;
    for (const auto& [name, run] : {std::pair{"classic", &classic}, std::pair{"sparse", &sparse}}) {
        if (!run->manifest) continue;
        const Manifest& m = *run->manifest;
        for (const RunSession& s : m.sessions) {
            table.rows.push_back({{name},
                                  {s.started},
                                  {fmt::format("{} ({})", s.version, s.commit)},
                                  {s.machine.processor},
                                  {s.machine.device},
                                  {s.machine.kernels},
                                  {std::to_string(s.machine.threads), double(s.machine.threads)}});
            commands += fmt::format("{}: {}\n", name, fmt::join(s.command, " "));
        }
        notes += fmt::format("<p class=\"muted\">{}: run {}; XXH3 of the text {}, of the tokenizer {}</p>\n",
                             name, escape_html(m.run), escape_html(m.fingerprint.corpus),
                             escape_html(m.fingerprint.tokenizer));
    }
    if (table.rows.empty()) return "";
    return fmt::format("{}{}<details><summary>Command lines</summary>\n<pre>{}</pre></details>\n",
                       table_html(table), notes, escape_html(commands));
}

// Recall with covered mass, and what random keys and the best ones would reach, as far as it is known.
Tile selection_tile(const TrainingHistory& h) {
    std::string remark = fmt::format("recall; covered mass {:.3f}", h.last("indexer_covered_mass"));
    for (const MetricKey beside : {MetricKey("indexer_chance"), MetricKey("indexer_oracle_mass")})
        if (!std::isnan(h.last(beside))) remark += fmt::format(", {} {:.3f}", beside->title, h.last(beside));
    return {"Selection", fmt::format("{:.3f}", h.last("indexer_recall")), remark};
}

class Report {
  public:
    explicit Report(std::string folder);
    std::string html();

  private:
    // Null when the file is missing, which is noted with the command that makes it.
    Json read(const std::string& name, const std::string& made_by);
    void read_settings(const std::string& attention, Run& run);
    void read_results(const std::string& attention, Run& run);
    void read_run(const std::string& attention, Run& run);
    void note_different_experiments();
    // Empty when it is missing.
    std::string picture(const std::string& name, const std::string& caption, const std::string& made_by);
    std::string path_of(const std::string& name) const { return folder_ + "/" + name; }
    // Of a model whose own configuration is missing, the other one's tells how it was trained.
    std::string command_for(const std::string& stages) const {
        const Run &run = stages == "classic" ? classic_ : sparse_,
                  &other = stages == "classic" ? sparse_ : classic_;
        return train_command(run.settings ? run.settings : other.settings, folder_, stages);
    }
    void note_stale_metrics();

    std::string introduction() const;
    std::string tiles() const;
    std::string curves();
    std::string attention();
    std::set<int64_t> layers();
    std::string layer_pictures(int64_t layer);
    std::string other_pictures();
    std::string notice() const;

    std::string folder_;
    std::vector<std::string> notes_;
    std::set<std::string> shown_;  // pictures
    Run classic_, sparse_;
    Json metrics_, statistics_;
};

constexpr const char* metrics_file = "comparison/comparison_metrics.json";
constexpr const char* statistics_file = "comparison/attention_statistics.json";
constexpr const char* picture_stems[] = {"attention_pattern", "indexer_heads", "dense_attention"};

Report::Report(std::string folder) : folder_(std::move(folder)) {
    read_settings("classic", classic_);
    read_settings("sparse", sparse_);
    read_results("classic", classic_);
    read_results("sparse", sparse_);
    read_run("classic", classic_);
    read_run("sparse", sparse_);
    note_different_experiments();
    metrics_ = read(metrics_file, command_for("compare"));
    statistics_ = read(statistics_file, draw_command(folder_));
    if (!classic_.history && !sparse_.history && metrics_.is_null())
        fail_bad_file(
            fmt::format("{}: holds no results of an experiment (neither classic, sparse nor comparison); "
                        "give a folder such as results",
                        folder_));
    note_stale_metrics();
}

Json Report::read(const std::string& name, const std::string& made_by) {
    if (!fs::exists(path_of(name))) {
        notes_.push_back(fmt::format("{} is missing; {} makes it", name, made_by));
        return {};
    }
    Json json = read_json(path_of(name));
    if (!json.is_object()) fail_bad_file(path_of(name) + ": want one JSON object; is it of another version?");
    return json;
}

void Report::read_settings(const std::string& attention, Run& run) {
    const std::string name = attention + "/config.json";
    if (!fs::exists(path_of(name))) return;
    run.config = read(name, "");
    run.settings = config_from_json(run.config, path_of(name), true);
}

void Report::read_results(const std::string& attention, Run& run) {
    const std::string name = attention + "/training_results.json";
    if (!run.settings)
        notes_.push_back(
            fmt::format("{}/config.json is missing; {} makes it", attention, command_for(attention)));
    run.results = read(name, command_for(attention));
    if (!run.results.is_null()) run.history = read_training_results(path_of(name));
}

void Report::read_run(const std::string& attention, Run& run) {
    if (!run.history) return;
    if (!fs::exists(path_of(attention + "/manifest.json"))) {
        notes_.push_back(fmt::format(
            "{}/manifest.json is missing: what made that folder's files is not known", attention));
        return;
    }
    run.manifest = read_manifest(path_of(attention));
    if (text_at(run.results, "run") != run.manifest->run)
        notes_.push_back(fmt::format("{}: its files are of more than one run; {} with --resume mends it",
                                     attention, command_for(attention)));
}

void Report::note_different_experiments() {
    if (!classic_.manifest || !sparse_.manifest) return;
    const std::vector<Difference> differences = experiment_differences(*classic_.manifest, *sparse_.manifest);
    if (!differences.empty())
        notes_.push_back(fmt::format("the classic and the sparse model are of different experiments: {}",
                                     describe(differences)));
}

void Report::note_stale_metrics() {
    for (const auto& [name, run] : {std::pair{"classic", &classic_}, std::pair{"sparse", &sparse_}}) {
        if (metrics_.is_null() || !run->history) continue;
        const std::string place = fmt::format("/performance/{}/val_loss", name);
        if (number_at(metrics_, place, path_of(metrics_file)) != (*run->history)["val_loss"].back())
            notes_.push_back(fmt::format("{} was made before the {} model was trained; {} renews it",
                                         metrics_file, name, command_for("compare")));
    }
}

std::string Report::picture(const std::string& name, const std::string& caption, const std::string& made_by) {
    if (!fs::exists(path_of(name))) {
        notes_.push_back(fmt::format("{} is missing; {} makes it", name, made_by));
        return "";
    }
    shown_.insert(name);
    return picture_html(path_of(name), caption);
}

std::string Report::introduction() const {
    const Run& run = sparse_.history ? sparse_ : classic_;
    std::string html = fmt::format("<p>The results in <b>{}</b>", escape_html(folder_));
    if (run.settings)
        html += fmt::format(": {} preset, seed {}, {} protocol", escape_html(run.settings->preset),
                            run.settings->seed, name_of(run.settings->protocol));
    html += ".</p>\n";
    const std::string data = text_at(run.results, "data");
    if (!data.empty()) html += fmt::format("<p class=\"muted\">Data: {}</p>\n", escape_html(data));
    return html + trained_on(classic_.results, sparse_.results);
}

std::string Report::tiles() const {
    std::vector<Tile> tiles;
    const auto value = [](const Run& run, const char* format, auto measure) {
        return run.history ? number_text(format, measure(*run.history)) : std::string("–");
    };
    const auto both = [&](const char* title, const char* format, const std::string& unit, auto measure) {
        std::string remark = "classic → sparse";
        if (classic_.history && sparse_.history)
            remark += ", " + difference_cell(measure(*classic_.history), measure(*sparse_.history)).text;
        tiles.push_back({fmt::format("{}{}", title, unit),
                         value(classic_, format, measure) + " → " + value(sparse_, format, measure), remark});
    };
    both("Validation loss", "{:.4f}", "", [](const TrainingHistory& h) { return h["val_loss"].back(); });
    both("Time per step", "{:.0f}", ", ms",
         [](const TrainingHistory& h) { return 1000 * typical_step_seconds(h); });
    both("Peak tensor memory", "{:.0f}", ", MiB",
         [](const TrainingHistory& h) { return static_cast<double>(h.peak_memory_bytes) / (1 << 20); });
    if (sparse_.history && last_of((*sparse_.history)["indexer_recall"]))
        tiles.push_back(selection_tile(*sparse_.history));
    return tiles_html(tiles);
}

std::string Report::curves() {
    std::string html =
        picture("comparison/performance_comparison.png",
                "Classic and sparse model: quality by step, time and memory", command_for("compare"));
    for (const char* attention : {"classic", "sparse"})
        html += picture(fmt::format("{}/training_curves.png", attention),
                        fmt::format("Training of the {} model", attention), command_for("compare"));
    return html;
}

std::string Report::layer_pictures(int64_t layer) {
    constexpr const char* captions[] = {"what the indexer scores, what it selects, what attention reads",
                                        "what each head of the indexer contributes to the score",
                                        "attention of the classic model"};
    std::string html;
    for (size_t i = 0; i < std::size(captions); ++i) {
        const std::string name = fmt::format("comparison/{}_layer{}.png", picture_stems[i], layer);
        if (fs::exists(path_of(name)))
            html += picture(name, fmt::format("Layer {}: {}", layer, captions[i]), "");
    }
    return html;
}

// The layers of which there are pictures. Those of an earlier model with more layers are not shown.
std::set<int64_t> Report::layers() {
    const std::optional<ExperimentConfig>& settings = sparse_.settings ? sparse_.settings : classic_.settings;
    std::set<int64_t> layers;
    for (const char* stem : picture_stems)
        for (const int64_t layer : layers_drawn(path_of("comparison"), stem)) {
            const std::string name = fmt::format("comparison/{}_layer{}.png", stem, layer);
            const bool outdated = settings && layer >= settings->model.n_layers;
            if (outdated) notes_.push_back(name + " is of an earlier model that had more layers");
            if (outdated)
                shown_.insert(name);
            else
                layers.insert(layer);
        }
    return layers;
}

std::string Report::attention() {
    const std::set<int64_t> drawn = layers();
    if (drawn.empty())
        notes_.push_back(
            fmt::format("comparison holds no attention pictures; {} makes them", draw_command(folder_)));
    std::string html;
    for (const int64_t layer : drawn)
        html += layer == *drawn.begin() ? layer_pictures(layer)
                                        : fmt::format("<details><summary>Layer {}</summary>\n{}</details>\n",
                                                      layer, layer_pictures(layer));
    return html +
           picture("comparison/attention_statistics.png", "Statistics of the selections",
                   draw_command(folder_)) +
           statistics_table(statistics_, path_of(statistics_file));
}

// Pictures that other programs left in the folder or in a folder of it.
std::string Report::other_pictures() {
    std::vector<fs::path> folders = {folder_}, files;
    for (const auto& entry : fs::directory_iterator(folder_))
        if (entry.is_directory()) folders.push_back(entry.path());
    for (const fs::path& folder : folders)
        for (const auto& entry :
             fs::directory_iterator(folder, fs::directory_options::skip_permission_denied))
            if (entry.path().extension() == ".png") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    std::string html;
    for (const fs::path& file : files) {
        const std::string name = file.lexically_relative(folder_).string();
        if (!shown_.contains(name)) html += picture_html(file.string(), name);
    }
    return html;
}

std::string Report::notice() const {
    if (notes_.empty()) return "";
    std::string html = "<div class=\"notice\">This page is not complete:<ul>\n";
    for (const std::string& note : notes_) html += "<li>" + escape_html(note) + "</li>\n";
    return html + "</ul></div>\n";
}

std::string Report::html() {
    std::vector<Section> sections = {
        {"criteria", "Criteria", criteria_table(metrics_, path_of(metrics_file))},
        {"quality", "Quality", quality_table(classic_, sparse_)},
        {"efficiency", "Efficiency", efficiency_table(classic_, sparse_)},
        {"curves", "Curves", curves() + evaluations_table(classic_, sparse_)},
        {"attention", "Attention", attention()},
        {"pictures", "More pictures", other_pictures()},
        {"runs", "Runs", runs_table(classic_, sparse_)},
        {"configuration", "Configuration", config_table(classic_, sparse_)},
        {"commands", "Commands", commands(classic_, sparse_, folder_)}};
    return page_html("Classic against sparse attention", introduction() + tiles() + notice(), sections);
}

}  // namespace

std::string report_html(const std::string& results_dir) {
    std::string folder = fs::path(results_dir).lexically_normal().string();
    if (folder.size() > 1 && folder.back() == '/') folder.pop_back();
    if (!fs::is_directory(folder)) fail_bad_file(folder + ": no such folder; give one such as results");
    return Report(folder).html();
}

std::string write_report(const std::string& results_dir, const std::string& folder) {
    const std::string html = report_html(results_dir), path = folder + "/report.html";
    make_folder(folder);
    write_file_atomic(path, html);
    return path;
}

}  // namespace sieve
