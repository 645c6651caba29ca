// Where an axis is marked, and with what text.
#pragma once

#include <string>
#include <vector>

namespace sieve::plot {

struct Ticks {
    std::vector<double> at;           // ascending, inside the range
    std::vector<std::string> labels;  // one each
    std::string multiplier;           // "×10⁻⁴" when the labels are to be read so, else empty
    std::vector<double> minor;        // unlabelled
};

// Widens a range too narrow to be told apart, and limits it to what arithmetic can carry; puts the ends in
// order. A range that is not finite becomes [0, 1].
void make_usable_range(double& low, double& high);

// Steps of 1, 2 or 5 times a power of ten: 3 to `most` (3..10) ticks, and up to 10 where none of these steps
// does. integers: whole numbers only, which may be fewer.
Ticks linear_ticks(double low, double high, int most, bool integers = false);

// 0 < low <= high. Powers of the base; below three of them 1-2-5 or 1-2-3-4-6-8 (base 10),
// else linear ticks.
Ticks log_ticks(double low, double high, int base, int most);

// Decimals that show `value` with `digits` significant digits.
int decimals_for(double value, int digits = 3);

// At most `digits` significant digits, no trailing zeros, a real minus sign: "0.0312", "1250", "−3×10⁻⁷".
// "n/a" when the value is not finite.
std::string format_number(double value, int digits = 3);

}  // namespace sieve::plot
