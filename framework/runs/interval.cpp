#include "framework/runs/interval.h"

#include <numbers>

#include "framework/runs/study.h"

namespace sieve {
namespace {

// P(|T| <= t), theta = atan(t / sqrt(degrees)).
double probability_within(double t, int64_t degrees) {
    const double theta = std::atan(t / std::sqrt(static_cast<double>(degrees)));
    const double sine = std::sin(theta), cosine = std::cos(theta);
    const bool odd = degrees % 2 == 1;
    double term = odd ? cosine : 1, sum = degrees == 1 ? 0 : term;
    for (int64_t i = odd ? 3 : 2; i <= degrees - 2; i += 2) {
        term *= cosine * cosine * static_cast<double>(i - 1) / static_cast<double>(i);
        sum += term;
    }
    return odd ? 2 / std::numbers::pi * (theta + sine * sum) : sine * sum;
}

}  // namespace

double student_t95(int64_t degrees) {
    double low = 0, high = 16;
    for (int i = 0; i < 60; ++i) {
        const double middle = (low + high) / 2;
        (probability_within(middle, degrees) < 0.95 ? low : high) = middle;
    }
    return (low + high) / 2;
}

Interval interval_of(const std::vector<double>& values) {
    const Spread spread = spread_of(values);
    Interval interval{.n = spread.count, .mean = spread.mean};
    if (spread.count >= 2)
        interval.half_width =
            student_t95(spread.count - 1) * spread.deviation / std::sqrt(static_cast<double>(spread.count));
    return interval;
}

double gap_in_deviations(const std::vector<double>& a, const std::vector<double>& b) {
    const Spread first = spread_of(a), second = spread_of(b);
    return (first.mean - second.mean) /
           std::sqrt((first.deviation * first.deviation + second.deviation * second.deviation) / 2);
}

}  // namespace sieve
