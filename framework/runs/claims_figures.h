// The figures of the page of the claims, each made of the lines of runs.jsonl alone.
#pragma once

#include <string>
#include <vector>

#include "framework/plot/figure.h"
#include "framework/runs/claims.h"

namespace sieve {

struct ClaimFigure {
    std::string file;     // beside runs.jsonl
    std::string caption;  // for people, below it
    plot::Figure figure;
};

// The validation loss by selector, the right answers by selector and number of keys, and the speed-up by length:
// means over the seeds with their 95 % interval. One of which no number is there is left out.
std::vector<ClaimFigure> claims_figures(const ClaimsCommand& command, const RunRecords& records);

}  // namespace sieve
