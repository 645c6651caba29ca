// What sparse attention costs and gains by sequence length, measured beside what the FLOPs allow.
#pragma once

#include <string>
#include <vector>

#include "framework/plot/figure.h"

namespace sieve::plot {

// One element a length in every series; a series that was not measured is empty, a length that was not is
// NaN.
struct Efficiency {
    std::string title;
    std::vector<double> lengths;                                // > 0, ascending
    std::vector<double> classic_seconds, sparse_seconds;        // per step
    std::vector<double> classic_seconds_sd, sparse_seconds_sd;  // shown as bands
    std::vector<double> bound;                                  // classic FLOPs / sparse FLOPs of a step
    std::vector<double> classic_peak_bytes, sparse_peak_bytes;
};

// Three panels against the length (log2): time per step, speed-up with its bound, peak memory.
// Throws when a series is neither empty nor as long as `lengths`.
Figure efficiency_figure(const Efficiency& efficiency);

}  // namespace sieve::plot
