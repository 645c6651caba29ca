// What sparse attention costs and gains by sequence length, measured beside what the FLOPs allow.
#pragma once

#include <string>
#include <vector>

#include "framework/plot/figure.h"

namespace sieve::plot {

// One element a length in every series; a series that was not measured is empty, a length that was not is
// NaN.
struct Efficiency {
    enum class Kind { classic, materialised, sparse };
    struct Variant {
        Kind kind;
        std::vector<double> seconds;    // per step
        std::vector<double> low, high;  // quartiles of the steps, shown as a band
        std::vector<double> peak_bytes;
    };
    // One kind of step, such as a training step: a row of panels.
    struct Stage {
        std::string name;
        std::vector<Variant> variants;  // in the order in which they are drawn
        std::vector<double> bound;      // classic FLOPs / sparse FLOPs of a step
    };
    std::string title;
    std::vector<double> lengths;  // > 0, ascending
    std::vector<Stage> stages;
};

// Three panels a stage against the length (log2): time per step, speed-up with its bound, peak memory.
// Throws when a series is neither empty nor as long as `lengths`.
Figure efficiency_figure(const Efficiency& efficiency);

}  // namespace sieve::plot
