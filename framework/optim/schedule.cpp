#include "framework/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sieve {

double scheduled_learning_rate(int64_t step, int64_t total_steps, double peak) {
    const int64_t warmup = total_steps / 20;
    if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
    const int64_t decay_steps = std::max<int64_t>(1, total_steps - 1 - warmup);
    const double r = std::min(1.0, static_cast<double>(step - warmup) / static_cast<double>(decay_steps));
    return peak * (0.1 + 0.9 * 0.5 * (1 + std::cos(std::numbers::pi * r)));
}

}  // namespace sieve
