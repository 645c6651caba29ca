// The mean of a few seeds' numbers and how far it is known.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace sieve {

// t with P(|T| <= t) = 0.95 for Student's T of so many degrees of freedom, of at least 1: 12.706 for 1, 4.303
// for 2. By the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4.
double student_t95(int64_t degrees);

struct Interval {
    int64_t n = 0;
    double mean = NAN;        // NaN of no number
    double half_width = NAN;  // of the 95 % interval mean ± half_width; NaN of fewer than two numbers

    double lower() const { return mean - half_width; }
    double upper() const { return mean + half_width; }
};

// mean ± t s / sqrt(n), s the sample standard deviation. For a comparison of two settings `values` holds one
// difference or ratio a seed, so that what a seed does to both does not count as noise. NaN is left out.
Interval interval_of(const std::vector<double>& values);

// How many times the deviation between seeds two settings lie apart:
//     (mean a - mean b) / sqrt((s_a^2 + s_b^2) / 2)
// NaN for fewer than two numbers of either.
double gap_in_deviations(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace sieve
