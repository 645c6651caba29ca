// When sparse attention is faster, and by how much: steps of the classic and the sparse model timed beside
// each other by sequence length, with their time by part, memory, and what their FLOPs allow.
//
// The variants take turns step by step, so that a noisy machine is noisy for all of them. Time by part comes
// from other steps than the totals.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "framework/measure/step_timing.h"
#include "framework/train/paired_steps.h"

namespace sieve {

enum class AttentionVariant {
    classic,       // dense attention in tiles
    materialised,  // dense attention with stored T x T tensors, as the original computed it
    sparse,        // indexer, selection, sparse attention and alignment loss
};
template <>
inline constexpr auto enum_names<AttentionVariant> =
    std::to_array<NamedValue<AttentionVariant>>({{AttentionVariant::classic, "classic"},
                                                 {AttentionVariant::materialised, "materialised"},
                                                 {AttentionVariant::sparse, "sparse"}});

struct EfficiencyPlan {
    ExperimentConfig base;
    Device device;
    std::vector<int64_t> lengths;  // ascending
    std::vector<AttentionVariant> variants;
    std::vector<StepKind> stages;
    int64_t tokens_per_step = 0;
    int64_t top_k = 0;
    double top_k_ratio = 0;  // > 0: top_k is this share of the length
    int64_t steps = 5, untimed_steps = 2, part_steps = 3;
    int64_t memory_limit = 0;  // bytes
    std::string folder;
    std::string markdown;  // a page whose tables are renewed; empty: none

    int64_t top_k_of(int64_t length) const;
    ExperimentConfig config_of(AttentionVariant variant, int64_t length) const;
};

double sum_of(const std::vector<PartSeconds>& parts);

// What was measured of one kind of step.
struct StepMeasurement {
    std::vector<double> seconds;                           // of each timed step
    bool in_turns = false;                                 // with the other variants, step by step
    std::vector<std::vector<PartSeconds>> steps_in_parts;  // of each further step
    int64_t peak_bytes = 0;
    int64_t system_calls = 0;  // in all timed steps together
    double loss = 0;           // of the last timed step
    // Of the step in parts whose whole time is the median; empty when there was none.
    std::vector<PartSeconds> parts() const;
};

// One variant at one length.
struct EfficiencyPoint {
    AttentionVariant variant;
    ExperimentConfig config;
    int64_t estimated_bytes = 0;
    int64_t parameter_bytes = 0, state_bytes = 0;  // state: parameters and the optimiser's
    std::string skipped;                           // why nothing was measured; empty otherwise
    std::map<StepKind, StepMeasurement> steps;

    int64_t length() const { return config.model.max_seq_len; }
};

struct EfficiencyResults {
    double gemm_rate = 0;  // GFLOP/s of large matrix products, on the device and at its precision
    std::vector<EfficiencyPoint> points;
    bool interrupted = false;

    // Null when it was not measured.
    const StepMeasurement* find(AttentionVariant variant, int64_t length, StepKind kind) const;
};

double flops_of(const ExperimentConfig& config, StepKind kind);
// Classic FLOPs over sparse FLOPs: the speed-up that would be seen if all FLOPs took the same time.
double flop_bound(const EfficiencyPlan& plan, int64_t length, StepKind kind);
// Time of `over` over that of sparse, step by step where the two took turns, else from the quartiles of each;
// nothing when one is missing.
std::optional<Quartiles> speedup_of(const EfficiencyResults& results, AttentionVariant over, int64_t length,
                                    StepKind kind);

// The length from which on sparse is faster: where the middle half of the speed-ups lies wholly below 1 at
// one measured length, and wholly above it from the next one on. Interpolated between the two medians (both
// logarithmic).
struct Crossover {
    std::optional<double> length;
    std::string
        text;  // "at about 1530 tokens", "none up to 4096 tokens", "not seen between 512 and 2048 tokens", ...
};
// Nothing: not measured at that length.
Crossover crossover_of(const std::vector<int64_t>& lengths,
                       const std::vector<std::optional<Quartiles>>& speedups);

// The command line of profile_efficiency; nothing when --help was printed. Throws usage errors.
std::optional<EfficiencyPlan> parse_efficiency(int argc, char** argv);

// Measures all points, prints them as they come, and writes the files after each length. Points that do not
// fit the memory limit, by their estimate or in fact, are reported and skipped. Stops at an interrupt.
EfficiencyResults measure_efficiency(const EfficiencyPlan& plan);

// plan.folder/efficiency.json, .csv and .png, each whole or not at all.
void write_efficiency(const EfficiencyPlan& plan, const EfficiencyResults& results);
std::string efficiency_tables(const EfficiencyPlan& plan, const EfficiencyResults& results);

// Tables for a page, in Markdown: of training steps, or of forwards when nothing else was measured.
// Time and memory by length; what was skipped has its estimated memory.
std::string efficiency_markdown(const EfficiencyPlan& plan, const EfficiencyResults& results);
// Time by part at the longest length at which every variant has it; empty when there is none.
std::string parts_markdown(const EfficiencyPlan& plan, const EfficiencyResults& results);

// The program; returns its exit code.
int run_efficiency(const EfficiencyPlan& plan);

}  // namespace sieve
