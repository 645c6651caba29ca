#include "framework/plot/ticks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace sieve::plot {
namespace {

std::string superscript(int value) {
    static const char* const digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    std::string out;
    for (const char c : std::to_string(value)) out += c == '-' ? "⁻" : digits[c - '0'];
    return out;
}

std::string with_minus_sign(std::string text) {
    if (text.starts_with("-"))
        text.replace(0, 1, text.find_first_not_of("-0.") == std::string::npos ? "" : "−");
    return text;
}

std::string fixed(double value, int decimals) {
    return with_minus_sign(fmt::format("{:.{}f}", value, decimals));
}

struct Multiples {  // of a step: first, first + 1, ..., last
    double first, last;
    double count() const { return last - first + 1; }
};

// The tolerance lets 0.3 be a multiple of 0.1.
Multiples multiples_inside(double low, double high, double step) {
    return {std::ceil(low / step - 1e-9), std::floor(high / step + 1e-9)};
}

double nice_step(double low, double high, int most, bool integers) {
    constexpr double mantissas[] = {1, 2, 5};
    int exponent = static_cast<int>(std::floor(std::log10((high - low) / most))) - 1;
    double previous = 0;
    for (int i = 0;; ++i) {
        const double step = mantissas[i % 3] * std::pow(10.0, exponent + i / 3);
        if (integers && step < 1) continue;
        const double count = multiples_inside(low, high, step).count();
        if (count <= most) return count < 3 && previous > 0 ? previous : step;
        previous = step;
    }
}

void label_linear(Ticks& ticks, double step) {
    double largest = 0;
    for (const double v : ticks.at) largest = std::max(largest, std::abs(v));
    int exponent = largest > 0 ? static_cast<int>(std::floor(std::log10(largest) + 1e-9)) : 0;
    if (exponent >= -3 && exponent < 6) exponent = 0;
    if (exponent != 0) ticks.multiplier = "×10" + superscript(exponent);
    const double unit = std::pow(10.0, exponent);
    const int decimals = std::clamp(static_cast<int>(-std::floor(std::log10(step / unit) + 1e-9)), 0, 12);
    for (const double v : ticks.at) ticks.labels.push_back(fixed(v / unit, decimals));
}

std::string power_label(int base, int exponent, bool plain) {
    if (plain) return format_number(std::pow(base, exponent), 12);
    return std::to_string(base) + superscript(exponent);
}

// Every stride-th power of the base inside [first, last] (exponents).
Ticks power_ticks(int base, int first, int last, int most) {
    int stride = (last - first) / most + 1;
    const auto count = [&](int s) { return (last - first) / s + 1; };
    if (count(stride) < 3) stride = std::max(1, stride - 1);
    Ticks ticks;
    const bool plain = base == 2 ? first >= -4 && last <= 20 : first >= -3 && last <= 4;
    for (int e = first; e <= last; e += stride) {
        ticks.at.push_back(std::pow(base, e));
        ticks.labels.push_back(power_label(base, e, plain));
    }
    return ticks;
}

// 1, 2, ..., 9 times powers of ten inside the range, those whose digit is in `digits`.
std::vector<double> digit_ticks(double low, double high, std::initializer_list<int> digits) {
    std::vector<double> at;
    const int first = static_cast<int>(std::floor(std::log10(low))),
              last = static_cast<int>(std::ceil(std::log10(high)));
    for (int e = first; e <= last; ++e)
        for (const int digit : digits) {
            const double v = digit * std::pow(10.0, e);
            if (v >= low * (1 - 1e-9) && v <= high * (1 + 1e-9)) at.push_back(v);
        }
    return at;
}

}  // namespace

int decimals_for(double value, int digits) {
    if (!std::isfinite(value) || value == 0) return 0;
    return std::clamp(digits - 1 - static_cast<int>(std::floor(std::log10(std::abs(value)))), 0, 12);
}

std::string format_number(double value, int digits) {
    if (!std::isfinite(value)) return "n/a";
    if (value == 0) return "0";
    const int exponent = static_cast<int>(std::floor(std::log10(std::abs(value))));
    if (exponent < -4 || exponent > 6) {
        const double mantissa = value / std::pow(10.0, exponent);
        return with_minus_sign(fmt::format("{:.{}g}", mantissa, digits)) + "×10" + superscript(exponent);
    }
    const int decimals = decimals_for(value, digits);
    std::string text = fmt::format("{:.{}f}", value, decimals);
    if (decimals > 0) {
        while (text.back() == '0') text.pop_back();
        if (text.back() == '.') text.pop_back();
    }
    return with_minus_sign(text);
}

void make_usable_range(double& low, double& high) {
    if (!std::isfinite(low) || !std::isfinite(high)) low = 0, high = 1;
    if (low > high) std::swap(low, high);
    low = std::clamp(low, -1e300, 1e300);
    high = std::clamp(high, -1e300, 1e300);
    const double magnitude = std::max(std::abs(low), std::abs(high));
    if (high - low > 1e-9 * magnitude && high - low > 1e-290) return;
    const double by = magnitude > 1e-280 ? 0.05 * magnitude : 0.5;
    low -= by;
    high += by;
}

Ticks linear_ticks(double low, double high, int most, bool integers) {
    make_usable_range(low, high);
    const double step = nice_step(low, high, std::clamp(most, 3, 10), integers);
    const Multiples inside = multiples_inside(low, high, step);
    Ticks ticks;
    for (double i = inside.first; i <= inside.last; ++i) ticks.at.push_back(i * step + 0.0);
    label_linear(ticks, step);
    return ticks;
}

Ticks log_ticks(double low, double high, int base, int most) {
    most = std::clamp(most, 3, 10);
    const double per_power = std::log(base);
    const int first = static_cast<int>(std::ceil(std::log(low) / per_power - 1e-9));
    const int last = static_cast<int>(std::floor(std::log(high) / per_power + 1e-9));
    if (last - first >= 2) {
        Ticks ticks = power_ticks(base, first, last, most);
        if (base == 10 && last - first < most) ticks.minor = digit_ticks(low, high, {2, 3, 4, 5, 6, 7, 8, 9});
        return ticks;
    }
    if (base != 10) return linear_ticks(low, high, most);
    Ticks ticks;
    ticks.at = digit_ticks(low, high, {1, 2, 5});
    if (ticks.at.size() < 3) ticks.at = digit_ticks(low, high, {1, 2, 3, 4, 6, 8});
    if (ticks.at.size() < 3) return linear_ticks(low, high, most);
    for (const double v : ticks.at) ticks.labels.push_back(format_number(v));
    ticks.minor = digit_ticks(low, high, {1, 2, 3, 4, 5, 6, 7, 8, 9});
    return ticks;
}

}  // namespace sieve::plot
