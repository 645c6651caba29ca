#include "framework/plot/color.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>

#include "framework/core/error.h"

namespace sieve::plot {
namespace {

ColorMap from_hex(std::initializer_list<uint32_t> values) {
    std::vector<Color> points;
    for (const uint32_t value : values) points.push_back(Color::hex(value));
    return ColorMap(std::move(points));
}

}  // namespace

Color palette(size_t index) {
    static constexpr std::array<uint32_t, 10> tab10 = {0x1f77b4, 0xff7f0e, 0x2ca02c, 0xd62728, 0x9467bd,
                                                       0x8c564b, 0xe377c2, 0x7f7f7f, 0xbcbd22, 0x17becf};
    return Color::hex(tab10[index % tab10.size()]);
}

ColorMap::ColorMap(std::vector<Color> control_points) : points_(std::move(control_points)) {
    if (points_.size() < 2) fail("colour map: needs at least two control points");
}

ColorMap ColorMap::viridis() {
    return from_hex({0x440154, 0x482576, 0x414487, 0x35608d, 0x2a788e, 0x21908c, 0x22a884, 0x43bf71, 0x7ad151,
                     0xbbdf27, 0xfde725});
}

ColorMap ColorMap::magma() {
    return from_hex({0x000004, 0x150e37, 0x3b0f70, 0x641a80, 0x8c2981, 0xb63679, 0xde4968, 0xf76f5c, 0xfe9f6d,
                     0xfece91, 0xfcfdbf});
}

ColorMap ColorMap::diverging() {
    return from_hex({0x053061, 0x2166ac, 0x4393c3, 0x92c5de, 0xd1e5f0, 0xf7f7f7, 0xfddbc7, 0xf4a582, 0xd6604d,
                     0xb2182b, 0x67001f});
}

Color ColorMap::at(double t) const {
    const double last = static_cast<double>(points_.size() - 1);
    const double position = t > 0 ? std::min(t, 1.0) * last : 0;  // NaN goes to the low end
    const size_t i = std::min(static_cast<size_t>(position), points_.size() - 2);
    return points_[i].mixed(points_[i + 1], position - static_cast<double>(i));
}

}  // namespace sieve::plot
