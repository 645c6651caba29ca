// The claims that were made about sparse attention, each as trainings that can contradict it.
//
//   OUT/results/runs.jsonl   a line for each run that has finished (run_records.h)
//   OUT/results.md           the page that is made of those lines
//   OUT/results/*.png        its figures (claims_figures.h)
//   RESULTS/runs/...         a folder a run, as an experiment leaves it
//
// A run that two claims ask for happens once, and one that has its line is not repeated.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "framework/program/config.h"
#include "framework/runs/interval.h"
#include "framework/runs/run_records.h"

namespace sieve {

// One training, or steps of a classic and a sparse model that are done in turns.
struct ClaimRun {
    const char* preset = "small";
    std::vector<std::pair<std::string, std::string>> keys = {};  // that differ from the preset
    AttentionKind variant = AttentionKind::sparse;               // which model is trained
    bool steps_in_turns = false;                                 // no training: both models' trial steps
};

// What is compared of a run and its reference, seed by seed.
enum class Comparison {
    value,       // the run's own number; no reference
    difference,  // run - reference
    relative,    // run / reference - 1
    gap,         // gap_in_deviations(run, reference): one number of all seeds
};

struct Range {
    double least = -INFINITY, most = INFINITY;
    bool holds(double number) const { return number >= least && number <= most; }
};

struct ClaimRow {
    std::string setting;  // for people
    const char* metric;   // a name in RunRecord::metrics
    Comparison comparison = Comparison::value;
    ClaimRun run;
    ClaimRun reference = {};
    // Where the number lies when the claim is true; none: the row is there to be read, and judges nothing.
    std::optional<Range> claimed = {};
    std::optional<Range> quick = {};  // what --quick, whose models are tiny, asks of the mean; none: nothing
    bool long_only = false;           // --quick, which must stay quick, leaves the row's runs out
};

// The run, and what it is compared with.
std::vector<ClaimRun> runs_of_row(const ClaimRow& row);

struct Claim {
    std::string name;  // of --only
    std::string text;  // what is claimed, and by whom
    std::vector<ClaimRow> rows = {};
    std::string not_built = {};  // what is missing when there are no rows
};

const std::vector<Claim>& claims();

// Of a row, whose number has a 95 % interval over the seeds:
//   holds      the interval lies within what is claimed
//   does not   it lies outside
//   undecided  it holds a bound, or fewer than 2 seeds gave no interval. A gap has none: it is decided by the
//              number itself, from 3 seeds on
// Of a claim: holds or does not when each of its judged rows says so; depends when one row holds and another
// does not; undecided in all other cases but these: not run (no row has a number), not built (it has no
// rows).
enum class ClaimVerdict { holds, does_not, depends, undecided, not_run, not_built };
template <>
inline constexpr auto enum_names<ClaimVerdict> =
    std::to_array<NamedValue<ClaimVerdict>>({{ClaimVerdict::holds, "holds"},
                                             {ClaimVerdict::does_not, "does not"},
                                             {ClaimVerdict::depends, "depends"},
                                             {ClaimVerdict::undecided, "undecided"},
                                             {ClaimVerdict::not_run, "not run"},
                                             {ClaimVerdict::not_built, "not built yet"}});
ClaimVerdict judge_row(const Interval& number, Comparison comparison, const Range& claimed);
ClaimVerdict judge_claim(const std::vector<ClaimVerdict>& judged_rows);

struct ClaimsCommand {
    std::string only;   // one claim's name; empty: all
    int64_t seeds = 3;  // 42, 43, ...
    bool quick = false, report = false;
    std::string out, results_dir, data, readme;  // readme: the page that holds the summary; empty: none
    std::string cache_dir = "data/cache";
    DeviceChoice device = DeviceChoice::automatic;
    int64_t threads = 0;
};

// The configuration of a run: the preset, the keys, and with `quick` a tiny model in their place.
ExperimentConfig config_of(const ClaimRun& run, const ClaimsCommand& command, int64_t seed);
// What RunRecord::run calls it.
std::string name_of_run(const ClaimRun& run, const ClaimsCommand& command, int64_t seed);

// The lines of OUT/results/runs.jsonl. A run is known by its configuration, not by the hash of it that stands in
// its name: a line that is older than a key means that key's default, as an older config.json does.
RunRecords read_records(const ClaimsCommand& command);

// One number a seed, of the seeds that have it.
std::vector<double> numbers_of(const ClaimRun& run, const char* metric, const ClaimsCommand& command,
                               const RunRecords& records);
// The number of a row, over the seeds that both of its runs have.
Interval number_of(const ClaimRow& row, const ClaimsCommand& command, const RunRecords& records);

// The page, in Markdown, and the part of it that the README shows.
std::string claims_page(const ClaimsCommand& command, const RunRecords& records);
std::string claims_summary(const ClaimsCommand& command, const RunRecords& records);

// The whole program. Throws a usage error for an unknown claim. Returns the exit code: 1 when a run failed,
// or with --quick when a number lies outside what is asked of it.
int run_claims(const ClaimsCommand& command);

}  // namespace sieve
