// How a training step grows: along one axis of the configuration at a time a short geometric series, all else
// fixed. The exponent a of "seconds ~ value^a" is the slope of a straight line through the logarithms; beside
// it stands the same slope of the counted operations (flops.h), which is what the step would show if every
// operation cost the same.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "framework/program/config.h"

namespace sieve {

struct Exponent {
    double slope;
    std::optional<double> standard_error;  // absent with two points, which leave no residual
};

// The least-squares line through (log x, log y). Throws unless there are two or more points, all positive,
// with different x.
Exponent fit_exponent(const std::vector<double>& x, const std::vector<double>& y);

struct ScalingSeries {
    std::string axis, attention;  // "T" of a "classic" model, ...
    std::string fixed;            // what the other axes are
    std::vector<double> values, seconds, gflop;
    Exponent measured, expected;
};

using StepTimer = std::function<double(const ExperimentConfig&)>;  // seconds of one step; `threads` is set
using LineSink = std::function<void(const std::string&)>;

// T, k, d_model, E, layers and threads (1, 2, ... up to `threads`), of both models at the medium preset. More
// threads do the same work: the exponent expected of them is -1.
std::vector<ScalingSeries> measure_scaling(const StepTimer& seconds_of_step, int threads,
                                           const LineSink& progress);

void to_json(nlohmann::ordered_json& json, const ScalingSeries& series);
std::string scaling_table(const std::vector<ScalingSeries>& series);  // Markdown

}  // namespace sieve
