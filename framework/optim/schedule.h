// The learning rate over a run: a linear warm-up over the first 5 % of the steps, then half a cosine down to
// 10 % of the peak at the last one.
#pragma once

#include <cstdint>

namespace sieve {

// step counts from 0. With w = total_steps / 20 (rounded down):
//   step < w:   peak (step + 1) / w
//   otherwise:  peak (0.1 + 0.9 (1 + cos(pi r)) / 2),  r = (step - w) / (total_steps - 1 - w), at most 1
double scheduled_learning_rate(int64_t step, int64_t total_steps, double peak);

}  // namespace sieve
