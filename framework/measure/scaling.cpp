#include "framework/measure/scaling.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/measure/flops.h"

namespace sieve {

Exponent fit_exponent(const std::vector<double>& x, const std::vector<double>& y) {
    const size_t n = x.size();
    if (n < 2 || y.size() != n)
        fail(fmt::format("fit_exponent: {} and {} values, want two or more of each", n, y.size()));
    double mean_x = 0, mean_y = 0;
    for (size_t i = 0; i < n; ++i) {
        if (!(x[i] > 0) || !(y[i] > 0))
            fail(fmt::format("fit_exponent: the point ({}, {}), want positive numbers", x[i], y[i]));
        mean_x += std::log(x[i]) / static_cast<double>(n);
        mean_y += std::log(y[i]) / static_cast<double>(n);
    }
    double sxx = 0, sxy = 0, residual = 0;
    for (size_t i = 0; i < n; ++i) {
        sxx += std::pow(std::log(x[i]) - mean_x, 2);
        sxy += (std::log(x[i]) - mean_x) * (std::log(y[i]) - mean_y);
    }
    if (sxx == 0) fail("fit_exponent: all points at one x");
    Exponent fit{.slope = sxy / sxx, .standard_error = std::nullopt};
    if (n == 2) return fit;
    for (size_t i = 0; i < n; ++i)
        residual += std::pow(std::log(y[i]) - mean_y - fit.slope * (std::log(x[i]) - mean_x), 2);
    fit.standard_error = std::sqrt(residual / static_cast<double>(n - 2) / sxx);
    return fit;
}

namespace {

struct Axis {
    const char *name, *fixed;
    std::vector<int64_t> values;
    void (*set)(ExperimentConfig&, int64_t);
    bool classic_too = true;  // false: the classic model does not have it
    bool adds_work = true;    // false: the same work is divided
};

void set_shape(ExperimentConfig& c, int64_t batch_size, int64_t seq_len, int64_t top_k) {
    c.batch_size = batch_size, c.model.max_seq_len = seq_len, c.model.sparse_top_k = top_k;
}

std::vector<Axis> axes(int threads) {
    std::vector<int64_t> thread_counts;
    for (int64_t n = 1; n <= threads; n *= 2) thread_counts.push_back(n);
    return {
        {"T",
         "1 window, k = 256",
         {512, 1024, 2048, 4096},
         [](ExperimentConfig& c, int64_t v) { set_shape(c, 1, v, 256); }},
        {"k",
         "1 window of 2048",
         {64, 128, 256, 512, 1024},
         [](ExperimentConfig& c, int64_t v) { set_shape(c, 1, 2048, v); },
         false},
        {"d_model",
         "4 windows of 128, heads of 32, d_ff = 2 d_model",
         {128, 256, 512},
         [](ExperimentConfig& c, int64_t v) {
             set_shape(c, 4, 128, 64);
             c.model.d_model = v, c.model.n_heads = v / 32, c.model.d_ff = 2 * v;
         }},
        {"E",
         "4 windows of 128, 2 active experts",
         {2, 4, 8, 16},
         [](ExperimentConfig& c, int64_t v) {
             set_shape(c, 4, 128, 64);
             c.model.num_experts = v;
         }},
        {"layers",
         "4 windows of 128",
         {2, 4, 8, 16},
         [](ExperimentConfig& c, int64_t v) {
             set_shape(c, 4, 128, 64);
             c.model.n_layers = v;
         }},
        {"threads", "1 window of 2048, k = 256", thread_counts,
         [](ExperimentConfig& c, int64_t v) {
             set_shape(c, 1, 2048, 256);
             c.threads = v;
         },
         true, false},
    };
}

ScalingSeries measure(const Axis& axis, AttentionKind attention, const StepTimer& seconds_of_step,
                      const LineSink& progress) {
    ScalingSeries series{.axis = axis.name, .attention = name_of(attention), .fixed = axis.fixed};
    for (const int64_t value : axis.values) {
        ExperimentConfig config;
        apply_preset(config, "medium");
        config.model.attention = attention, config.device = DeviceChoice::cpu;
        axis.set(config, value);
        validate(config);
        const StepFlops flops =
            training_step_flops(config.model, config.batch_size, config.model.max_seq_len);
        series.values.push_back(static_cast<double>(value));
        series.gflop.push_back(flops.total() / 1e9);
        series.seconds.push_back(seconds_of_step(config));
        progress(fmt::format("{:<8} {} = {}: {:.1f} ms, {:.1f} GFLOP", series.attention, axis.name, value,
                             1000 * series.seconds.back(), series.gflop.back()));
    }
    series.measured = fit_exponent(series.values, series.seconds);
    series.expected = axis.adds_work ? fit_exponent(series.values, series.gflop) : Exponent{-1, std::nullopt};
    return series;
}

}  // namespace

std::vector<ScalingSeries> measure_scaling(const StepTimer& seconds_of_step, int threads,
                                           const LineSink& progress) {
    std::vector<ScalingSeries> all;
    for (const Axis& axis : axes(threads)) {
        if (axis.values.size() < 2) continue;  // threads, on one core
        if (axis.classic_too) all.push_back(measure(axis, AttentionKind::classic, seconds_of_step, progress));
        all.push_back(measure(axis, AttentionKind::sparse, seconds_of_step, progress));
    }
    return all;
}

namespace {

nlohmann::ordered_json json_of(const Exponent& e) {
    nlohmann::ordered_json json{{"slope", e.slope}};
    if (e.standard_error) json["standard_error"] = *e.standard_error;
    return json;
}

// "512, 1024, 2048"
std::string listed(const std::vector<double>& values, double factor, const char* form) {
    std::string text;
    for (const double v : values)
        text += (text.empty() ? "" : ", ") + fmt::format(fmt::runtime(form), factor * v);
    return text;
}

}  // namespace

void to_json(nlohmann::ordered_json& json, const ScalingSeries& s) {
    json = {{"axis", s.axis},
            {"attention", s.attention},
            {"fixed", s.fixed},
            {"values", s.values},
            {"seconds_per_step", s.seconds},
            {"gflop", s.gflop},
            {"measured", json_of(s.measured)},
            {"expected", json_of(s.expected)}};
}

std::string scaling_table(const std::vector<ScalingSeries>& series) {
    std::string table =
        "| axis | model | fixed | values | ms per step | exponent measured | from counted FLOPs |\n"
        "|---|---|---|---|---|---|---|\n";
    for (const ScalingSeries& s : series) {
        const std::string error =
            s.measured.standard_error ? fmt::format(" ± {:.2f}", *s.measured.standard_error) : "";
        table += fmt::format("| {} | {} | {} | {} | {} | {:.2f}{} | {:.2f} |\n", s.axis, s.attention, s.fixed,
                             listed(s.values, 1, "{:.0f}"), listed(s.seconds, 1000, "{:.0f}"),
                             s.measured.slope, error, s.expected.slope);
    }
    return table;
}

}  // namespace sieve
