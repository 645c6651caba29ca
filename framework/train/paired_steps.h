// How much faster a step of the sparse model is than one of the classic model, on a machine that may be busy
// with something else. Medians of two trainings, one after the other, cannot tell: the load drifts from one
// to the other. Here the two take turns, step by step, and each pair gives a ratio.
#pragma once

#include <string>
#include <vector>

#include "framework/core/named_enum.h"
#include "framework/data/dataset.h"
#include "framework/program/config.h"

namespace sieve {

struct Quartiles {
    double lower, median, upper;
};
Quartiles quartiles_of(std::vector<double> values);  // of at least one; interpolated

// Seconds of steps that were done in turns: element i of both is one pair.
struct PairedSteps {
    std::vector<double> classic, sparse;

    Quartiles speedup() const;  // classic over sparse, pair by pair
};

// Whether a ratio that varies from pair to pair is at least `wanted`: decided only when the middle half of
// the pairs lies on one side of it.
enum class Verdict { met, not_met, undecided };
template <>
inline constexpr auto enum_names<Verdict> = std::to_array<NamedValue<Verdict>>(
    {{Verdict::met, "met"}, {Verdict::not_met, "not met"}, {Verdict::undecided, "undecided (noise)"}});
Verdict judge(const Quartiles& ratio, double wanted);

// Trial steps of the stages that train the language model, of throwaway models of the configuration (whatever
// its model.attention says): 7 pairs, and up to 15 while they take less than `seconds`. The order within a
// pair changes from pair to pair. Holds both models at once.
PairedSteps time_in_pairs(const ExperimentConfig& config, const Dataset& data, Device device,
                          double seconds = 5);

}  // namespace sieve
