// Experiment 3, the baseline that experiment 4 refers to: the dense (classic) mixture-of-experts model at the
// best of several learning rates and expert counts.
//
//   results_dir/exp3/   training_results.json, training_curves.png, final_model.pt, config.json and the logs
//                       of the long run;
//                       search.json, search.png: the short runs and the choice that they led to
//   results_dir/exp3/search/{learning_rate,experts}/   both searches as studies (study.h)
#pragma once

#include <array>
#include <string>

#include "framework/program/command_line.h"

namespace sieve {

inline constexpr std::array<const char*, 4> searched_learning_rates{"0.0001", "0.0003", "0.001", "0.003"};
inline constexpr std::array<const char*, 3> searched_experts{"4", "8", "16"};
inline constexpr std::array<const char*, 2> searched_expert_top_k{"1", "2"};

// search_steps: of each short run; 0: no search, the long run takes the configuration as it is.
// Returns the program's exit code.
int run_baseline(const ExperimentCommand& command, int64_t search_steps);

}  // namespace sieve
