// What profile_efficiency leaves behind: efficiency.json, .csv, .png, and the tables that it prints or puts
// into a page.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "framework/core/cuda/runtime.h"
#include "framework/core/threads.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/measure/efficiency.h"
#include "framework/measure/flops.h"
#include "framework/nn/step_parts.h"
#include "framework/plot/figures/efficiency.h"
#include "framework/program/device.h"
#include "framework/program/progress.h"

namespace sieve {
namespace {

using Json = nlohmann::ordered_json;

// null: it was not measured.
Json measured(double value) {
    return std::isnan(value) ? Json() : json_number(value);
}

StepFlops step_flops(const ExperimentConfig& c, StepKind kind) {
    const auto count = kind == StepKind::forward ? forward_flops : training_step_flops;
    return count(c.model, c.batch_size, c.model.max_seq_len);
}

PartSeconds part_named(const std::vector<PartSeconds>& parts, const std::string& name) {
    for (const PartSeconds& part : parts)
        if (name == part.name) return part;
    return {.name = ""};
}

double bound_seconds(const EfficiencyResults& results, const EfficiencyPoint& point, StepKind kind) {
    return flops_of(point.config, kind) / (1e9 * results.gemm_rate);
}

Json parts_json(const EfficiencyPoint& point, StepKind kind, const std::vector<PartSeconds>& measured) {
    Json parts;
    const StepFlops flops = step_flops(point.config, kind);
    for (const char* name : step_part::all) {
        const PartSeconds part = part_named(measured, name);
        parts[name] = {{"seconds", part.total()},
                       {"forward_seconds", part.forward},
                       {"backward_seconds", part.backward},
                       {"flops", flops_of_part(flops, name)}};
    }
    return parts;
}

Json step_json(const EfficiencyResults& results, const EfficiencyPoint& point, StepKind kind) {
    const auto found = point.steps.find(kind);
    if (found == point.steps.end()) return nullptr;
    const StepMeasurement& m = found->second;
    const TimeSpread t = time_spread_of(m.seconds);
    const double bound = bound_seconds(results, point, kind);
    Json json{{"seconds", t.median},
              {"fastest", t.fastest},
              {"lower_quartile", t.lower_quartile},
              {"upper_quartile", t.upper_quartile},
              {"slowest", t.slowest},
              {"all_seconds", m.seconds},
              {"loss", json_number(m.loss)},
              {"peak_tensor_bytes", m.peak_bytes},
              {"allocator_misses", m.system_calls},
              {"flops", flops_of(point.config, kind)},
              {"bound_seconds", json_number(bound)},
              {"ratio_to_bound", json_number(bound / t.median)},
              {"parts", nullptr},
              {"parts_seconds", nullptr},
              {"parts_over_seconds", nullptr}};
    const std::vector<PartSeconds> parts = m.parts();
    if (parts.empty()) return json;
    json["parts"] = parts_json(point, kind, parts);
    json["parts_seconds"] = sum_of(parts);
    json["parts_over_seconds"] = json_number(sum_of(parts) / t.median);
    return json;
}

Json point_json(const EfficiencyPlan& plan, const EfficiencyResults& results, const EfficiencyPoint& point) {
    const bool made = point.state_bytes > 0;
    const std::string reason =
        point.skipped.empty() && point.steps.empty() ? "interrupted before" : point.skipped;
    Json json{
        {"length", point.length()},
        {"variant", name_of(point.variant)},
        {"batch_size", point.config.batch_size},
        {"top_k", point.variant == AttentionVariant::sparse ? Json(plan.top_k_of(point.length())) : Json()},
        {"skipped", reason.empty() ? Json() : Json(reason)},
        {"estimated_bytes", point.estimated_bytes},
        {"parameter_bytes", made ? Json(point.parameter_bytes) : Json()},
        {"parameter_and_optimizer_bytes", made ? Json(point.state_bytes) : Json()}};
    for (const StepKind kind : plan.stages) json[name_of(kind)] = step_json(results, point, kind);
    return json;
}

using Speedups = std::vector<std::optional<Quartiles>>;  // one a length; nothing where it was not measured

struct Comparison {
    Speedups over_classic, over_materialised;
    std::vector<double> bound;

    // The bounds as speed-ups without a spread.
    Speedups by_flops() const {
        Speedups exact;
        for (const double b : bound) exact.push_back(Quartiles{b, b, b});
        return exact;
    }
};

double median_of(const std::optional<Quartiles>& speedup) {
    return speedup ? speedup->median : NAN;
}

// The measured speed-up as a share of what the FLOPs allow; NaN when its middle half is wider than a fifth of
// it: such a number would say more of the machine's other work than of the model.
double share_of(const std::optional<Quartiles>& speedup, double bound) {
    const bool known = speedup && speedup->upper - speedup->lower <= 0.2 * speedup->median;
    return known ? speedup->median / bound : NAN;
}

Comparison compare(const EfficiencyPlan& plan, const EfficiencyResults& results, StepKind kind) {
    Comparison c;
    for (const int64_t length : plan.lengths) {
        c.over_classic.push_back(speedup_of(results, AttentionVariant::classic, length, kind));
        c.over_materialised.push_back(speedup_of(results, AttentionVariant::materialised, length, kind));
        c.bound.push_back(flop_bound(plan, length, kind));
    }
    return c;
}

Json quartiles_json(const std::optional<Quartiles>& speedup) {
    return speedup ? Json{json_number(speedup->lower), json_number(speedup->upper)} : Json();
}

Json crossover_json(const std::vector<int64_t>& lengths, const Speedups& speedups) {
    const Crossover crossover = crossover_of(lengths, speedups);
    return {{"length", crossover.length ? Json(*crossover.length) : Json()}, {"text", crossover.text}};
}

Json comparison_json(const EfficiencyPlan& plan, const EfficiencyResults& results, StepKind kind) {
    const Comparison c = compare(plan, results, kind);
    Json lengths = Json::array();
    for (size_t i = 0; i < plan.lengths.size(); ++i)
        lengths.push_back({{"length", plan.lengths[i]},
                           {"speedup_over_classic", measured(median_of(c.over_classic[i]))},
                           {"speedup_over_classic_quartiles", quartiles_json(c.over_classic[i])},
                           {"speedup_over_materialised", measured(median_of(c.over_materialised[i]))},
                           {"speedup_over_materialised_quartiles", quartiles_json(c.over_materialised[i])},
                           {"bound_by_flops", json_number(c.bound[i])},
                           {"share_of_bound", measured(share_of(c.over_classic[i], c.bound[i]))}});
    return {{"by_length", lengths},
            {"crossover", crossover_json(plan.lengths, c.over_classic)},
            {"crossover_with_materialised", crossover_json(plan.lengths, c.over_materialised)},
            {"crossover_by_flops", crossover_json(plan.lengths, c.by_flops())}};
}

// The points by length, then by variant.
std::vector<const EfficiencyPoint*> in_order(const EfficiencyPlan& plan, const EfficiencyResults& results) {
    std::vector<const EfficiencyPoint*> ordered;
    for (const int64_t length : plan.lengths)
        for (const EfficiencyPoint& point : results.points)
            if (point.length() == length) ordered.push_back(&point);
    return ordered;
}

Json to_json(const EfficiencyPlan& plan, const EfficiencyResults& results) {
    Json json{{"device", describe(plan.device)},
              {"threads", thread_count()},
              {"precision", name_of(precision())},
              {"gemm_gflop_per_second", results.gemm_rate},
              {"memory_limit_bytes", plan.memory_limit},
              {"interrupted", results.interrupted},
              {"variants",
               {{"classic", "dense attention in tiles, no T x T tensor"},
                {"materialised", "dense attention with stored T x T scores, as the original computed it"},
                {"sparse", "indexer, selection, sparse attention and alignment loss"}}},
              {"lengths", plan.lengths},
              {"top_k", plan.top_k_ratio > 0 ? Json() : Json(plan.top_k)},
              {"top_k_ratio", plan.top_k_ratio > 0 ? Json(plan.top_k_ratio) : Json()},
              {"tokens_per_step", plan.tokens_per_step},
              {"steps", plan.steps},
              {"untimed_steps", plan.untimed_steps},
              {"part_steps", plan.part_steps},
              {"points", Json::array()},
              {"comparison", Json::object()},
              {"config", config_to_json(plan.base)}};
    // The points have their own.
    for (const char* key : {"attention", "max_seq_len", "sparse_top_k", "batch_size"})
        json["config"].erase(key);
    for (const EfficiencyPoint* point : in_order(plan, results))
        json["points"].push_back(point_json(plan, results, *point));
    for (const StepKind kind : plan.stages)
        json["comparison"][name_of(kind)] = comparison_json(plan, results, kind);
    return json;
}

std::string cell(double value) {
    return std::isnan(value) ? "" : fmt::format("{:.9g}", value);
}

std::string csv_header() {
    std::string line =
        "stage,length,variant,batch_size,top_k,seconds,fastest,lower_quartile,upper_quartile,slowest,"
        "peak_tensor_bytes,estimated_bytes,parameter_and_optimizer_bytes,allocator_misses,flops,bound_"
        "seconds,"
        "ratio_to_bound,speedup_of_sparse,bound_by_flops";
    for (std::string part : step_part::all) {
        std::replace(part.begin(), part.end(), ' ', '_');
        line += "," + part + "_seconds";
    }
    return line + "\n";
}

std::string csv_line(const EfficiencyPlan& plan, const EfficiencyResults& results,
                     const EfficiencyPoint& point, StepKind kind) {
    const bool sparse = point.variant == AttentionVariant::sparse;
    const auto found = point.steps.find(kind);
    const bool measured = found != point.steps.end();
    const StepMeasurement m = measured ? found->second : StepMeasurement();
    const TimeSpread t = measured ? time_spread_of(m.seconds) : TimeSpread{NAN, NAN, NAN, NAN, NAN};
    const double bound = bound_seconds(results, point, kind);
    std::string line =
        fmt::format("{},{},{},{},{}", name_of(kind), point.length(), name_of(point.variant),
                    point.config.batch_size, sparse ? std::to_string(plan.top_k_of(point.length())) : "");
    for (const double value : {t.median, t.fastest, t.lower_quartile, t.upper_quartile, t.slowest})
        line += "," + cell(value);
    line += fmt::format(",{},{},{},{}", measured ? std::to_string(m.peak_bytes) : "", point.estimated_bytes,
                        point.state_bytes ? std::to_string(point.state_bytes) : "",
                        measured ? std::to_string(m.system_calls) : "");
    for (const double value :
         {flops_of(point.config, kind), bound, bound / t.median,
          sparse ? NAN : median_of(speedup_of(results, point.variant, point.length(), kind)),
          sparse ? NAN : flop_bound(plan, point.length(), kind)})
        line += "," + cell(value);
    const std::vector<PartSeconds> parts = m.parts();
    for (const char* part : step_part::all)
        line += "," + (parts.empty() ? "" : cell(part_named(parts, part).total()));
    return line + "\n";
}

std::string to_csv(const EfficiencyPlan& plan, const EfficiencyResults& results) {
    std::string text = csv_header();
    for (const StepKind kind : plan.stages)
        for (const EfficiencyPoint* point : in_order(plan, results))
            text += csv_line(plan, results, *point, kind);
    return text;
}

plot::Efficiency::Kind kind_of(AttentionVariant variant) {
    switch (variant) {
        case AttentionVariant::classic:
            return plot::Efficiency::Kind::classic;
        case AttentionVariant::materialised:
            return plot::Efficiency::Kind::materialised;
        case AttentionVariant::sparse:
            return plot::Efficiency::Kind::sparse;
    }
    return {};
}

plot::Efficiency::Variant series_of(const EfficiencyPlan& plan, const EfficiencyResults& results,
                                    AttentionVariant variant, StepKind kind) {
    plot::Efficiency::Variant series{.kind = kind_of(variant)};
    for (const int64_t length : plan.lengths) {
        const StepMeasurement* m = results.find(variant, length, kind);
        const TimeSpread t = m ? time_spread_of(m->seconds) : TimeSpread{NAN, NAN, NAN, NAN, NAN};
        series.seconds.push_back(t.median);
        series.low.push_back(t.lower_quartile);
        series.high.push_back(t.upper_quartile);
        series.peak_bytes.push_back(m ? static_cast<double>(m->peak_bytes) : NAN);
    }
    return series;
}

plot::Efficiency to_figure(const EfficiencyPlan& plan, const EfficiencyResults& results) {
    const std::string top_k = plan.top_k_ratio > 0 ? fmt::format("top {:g} of the length", plan.top_k_ratio)
                                                   : fmt::format("top {}", plan.top_k);
    const std::string machine = plan.device.is_cpu()
                                    ? fmt::format("{} CPU threads", thread_count())
                                    : fmt::format("{}, {}", cuda::device_info().name, name_of(precision()));
    plot::Efficiency figure{.title = fmt::format("Efficiency of sparse attention: {} preset, {}, {}",
                                                 plan.base.preset, top_k, machine)};
    for (const int64_t length : plan.lengths) figure.lengths.push_back(static_cast<double>(length));
    for (const StepKind kind : plan.stages) {
        plot::Efficiency::Stage stage{.name = kind == StepKind::train ? "Training step" : "Forward alone",
                                      .bound = compare(plan, results, kind).bound};
        for (const AttentionVariant variant : plan.variants)
            stage.variants.push_back(series_of(plan, results, variant, kind));
        figure.stages.push_back(std::move(stage));
    }
    return figure;
}

// A number, or a dash where there is none.
std::string dash_or(double value, double factor, const char* format) {
    return std::isfinite(value) ? fmt::format(fmt::runtime(format), factor * value) : "-";
}

// "1.12 (1.05 to 1.20)": the median and the middle half.
std::string spread_text(const std::optional<Quartiles>& speedup) {
    return speedup ? fmt::format("{:.2f} ({:.2f} to {:.2f})", speedup->median, speedup->lower, speedup->upper)
                   : "-";
}

double median_of(const EfficiencyResults& results, AttentionVariant variant, int64_t length, StepKind kind) {
    const StepMeasurement* m = results.find(variant, length, kind);
    return m ? time_spread_of(m->seconds).median : NAN;
}

std::string speed_table(const EfficiencyPlan& plan, const EfficiencyResults& results, StepKind kind) {
    const Comparison c = compare(plan, results, kind);
    std::string text =
        fmt::format("{}\n{:>8}", kind == StepKind::train ? "training step" : "forward alone", "length");
    for (const AttentionVariant variant : plan.variants)
        text += fmt::format("{:>16}", name_of(variant) + std::string(" ms"));
    text += fmt::format("{:>21}{:>10}{:>10}{:>19}\n", "speed-up", "by FLOPs", "share", "over materialised");
    for (size_t i = 0; i < plan.lengths.size(); ++i) {
        text += fmt::format("{:>8}", plan.lengths[i]);
        for (const AttentionVariant variant : plan.variants)
            text += fmt::format("{:>16}",
                                dash_or(median_of(results, variant, plan.lengths[i], kind), 1e3, "{:.2f}"));
        text += fmt::format("{:>21}{:>10.2f}{:>10}{:>19}\n", spread_text(c.over_classic[i]), c.bound[i],
                            dash_or(share_of(c.over_classic[i], c.bound[i]), 100, "{:.0f} %"),
                            dash_or(median_of(c.over_materialised[i]), 1, "{:.2f}"));
    }
    return text + fmt::format("sparse is faster than classic: {}; by FLOPs: {}\n",
                              crossover_of(plan.lengths, c.over_classic).text,
                              crossover_of(plan.lengths, c.by_flops()).text);
}

// Of the longest length whose parts were measured.
std::string parts_table(const EfficiencyPlan& plan, const EfficiencyResults& results, StepKind kind) {
    std::vector<const EfficiencyPoint*> points;
    for (const EfficiencyPoint* point : in_order(plan, results)) {
        const auto found = point->steps.find(kind);
        if (found == point->steps.end() || found->second.steps_in_parts.empty()) continue;
        if (!points.empty() && points.front()->length() != point->length()) points.clear();
        points.push_back(point);
    }
    if (points.empty()) return "";
    std::string text =
        fmt::format("{:<29}", fmt::format("parts at {}, ms (share of FLOPs)", points[0]->length()));
    for (const EfficiencyPoint* point : points) text += fmt::format("{:>20}", name_of(point->variant));
    const auto row = [&](const std::string& name, const auto& value) {
        text += fmt::format("\n  {:<30}", name);
        for (const EfficiencyPoint* point : points)
            text += fmt::format("{:>20}", value(*point, point->steps.at(kind)));
    };
    for (const char* name : step_part::all)
        row(name, [&](const EfficiencyPoint& point, const StepMeasurement& m) {
            const StepFlops flops = step_flops(point.config, kind);
            return fmt::format("{:.2f} ({:>3.0f} %)", 1e3 * part_named(m.parts(), name).total(),
                               100 * flops_of_part(flops, name) / flops.total());
        });
    row("sum, of the step's median", [](const EfficiencyPoint&, const StepMeasurement& m) {
        return fmt::format("{:.2f} ({:>3.0f} %)", 1e3 * sum_of(m.parts()),
                           100 * sum_of(m.parts()) / time_spread_of(m.seconds).median);
    });
    return text + "\n";
}

}  // namespace

void write_efficiency(const EfficiencyPlan& plan, const EfficiencyResults& results) {
    write_json_atomic(plan.folder + "/efficiency.json", to_json(plan, results));
    write_file_atomic(plan.folder + "/efficiency.csv", to_csv(plan, results));
    plot::efficiency_figure(to_figure(plan, results)).save(plan.folder + "/efficiency.png");
}

std::string efficiency_tables(const EfficiencyPlan& plan, const EfficiencyResults& results) {
    std::string text;
    for (const StepKind kind : plan.stages)
        for (const std::string& table : {speed_table(plan, results, kind), parts_table(plan, results, kind)})
            if (!table.empty()) text += table + "\n";
    text.pop_back();
    return text;
}

namespace {

StepKind stage_of_page(const EfficiencyPlan& plan) {
    return plan.stages == std::vector{StepKind::forward} ? StepKind::forward : StepKind::train;
}

std::string markdown_row(const std::vector<std::string>& cells) {
    std::string row = "|";
    for (const std::string& text : cells) row += " " + text + " |";
    return row + "\n";
}

std::string markdown_head(const std::vector<std::string>& cells) {
    std::string rule = "|";
    for (size_t i = 0; i < cells.size(); ++i) rule += "---|";
    return markdown_row(cells) + rule + "\n";
}

// Empty where there is no number.
std::string number_cell(double value, const char* format) {
    return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : "";
}

std::string milliseconds(double seconds) {
    return number_cell(1e3 * seconds, seconds < 0.1 ? "{:.1f}" : "{:.0f}");
}

const EfficiencyPoint& point_of(const EfficiencyResults& results, AttentionVariant variant, int64_t length) {
    return *std::find_if(results.points.begin(), results.points.end(), [&](const EfficiencyPoint& point) {
        return point.variant == variant && point.length() == length;
    });
}

std::string time_cell(const EfficiencyResults& results, const EfficiencyPoint& point, StepKind kind) {
    if (!point.skipped.empty()) return "does not fit";
    return milliseconds(median_of(results, point.variant, point.length(), kind));
}

std::string peak_cell(const EfficiencyPoint& point, StepKind kind) {
    const auto found = point.steps.find(kind);
    if (found != point.steps.end()) return human_bytes(found->second.peak_bytes);
    return point.estimated_bytes > 0 ? "about " + human_bytes(point.estimated_bytes) : "";
}

// 0: none.
int64_t longest_in_parts(const EfficiencyPlan& plan, const EfficiencyResults& results, StepKind kind) {
    const auto complete = [&](int64_t length) {
        return std::all_of(plan.variants.begin(), plan.variants.end(), [&](AttentionVariant variant) {
            const StepMeasurement* m = results.find(variant, length, kind);
            return m && !m->steps_in_parts.empty();
        });
    };
    const auto longest = std::find_if(plan.lengths.rbegin(), plan.lengths.rend(), complete);
    return longest == plan.lengths.rend() ? 0 : *longest;
}

// Empty for a part that the variant does not have.
std::string part_cell(const EfficiencyPoint& point, StepKind kind, const char* name) {
    const double seconds = part_named(point.steps.at(kind).parts(), name).total();
    const StepFlops flops = step_flops(point.config, kind);
    return seconds == 0 ? ""
                        : fmt::format("{} ({:.0f} % of FLOPs)", milliseconds(seconds),
                                      100 * flops_of_part(flops, name) / flops.total());
}

}  // namespace

std::string efficiency_markdown(const EfficiencyPlan& plan, const EfficiencyResults& results) {
    const StepKind kind = stage_of_page(plan);
    const Comparison c = compare(plan, results, kind);
    std::vector<std::string> head{"tokens"};
    for (const AttentionVariant variant : plan.variants)
        head.push_back(std::string(name_of(variant)) + ", ms");
    for (const char* title : {"speed-up over classic", "by FLOPs", "share", "over materialised"})
        head.emplace_back(title);
    for (const AttentionVariant variant : plan.variants)
        head.push_back((variant == plan.variants.front() ? "peak: " : "") + std::string(name_of(variant)));
    std::string table = markdown_head(head);
    for (size_t i = 0; i < plan.lengths.size(); ++i) {
        std::vector<std::string> row{std::to_string(plan.lengths[i])};
        for (const AttentionVariant variant : plan.variants)
            row.push_back(time_cell(results, point_of(results, variant, plan.lengths[i]), kind));
        row.push_back(number_cell(median_of(c.over_classic[i]), "{:.2f}"));
        row.push_back(number_cell(c.bound[i], "{:.2f}"));
        row.push_back(number_cell(100 * share_of(c.over_classic[i], c.bound[i]), "{:.0f} %"));
        row.push_back(number_cell(median_of(c.over_materialised[i]), "{:.2f}"));
        for (const AttentionVariant variant : plan.variants)
            row.push_back(peak_cell(point_of(results, variant, plan.lengths[i]), kind));
        table += markdown_row(row);
    }
    return table;
}

std::string parts_markdown(const EfficiencyPlan& plan, const EfficiencyResults& results) {
    const StepKind kind = stage_of_page(plan);
    const int64_t length = longest_in_parts(plan, results, kind);
    if (length == 0) return "";
    std::vector<std::string> head{fmt::format("part, ms at {} tokens", length)};
    for (const AttentionVariant variant : plan.variants) head.emplace_back(name_of(variant));
    std::string table = markdown_head(head);
    for (const char* name : step_part::all) {
        std::vector<std::string> row{name};
        for (const AttentionVariant variant : plan.variants)
            row.push_back(part_cell(point_of(results, variant, length), kind, name));
        table += markdown_row(row);
    }
    return table;
}

}  // namespace sieve
