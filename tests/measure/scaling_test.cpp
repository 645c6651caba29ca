// Exponents: the fit by hand, and the series with a step whose cost is known.
#include "framework/measure/scaling.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "framework/measure/flops.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("fit_exponent: an exact power, and by hand with a residual") {
    const Exponent exact = fit_exponent({1, 2, 8, 32}, {3, 12, 192, 3072});  // 3 x^2
    CHECK(exact.slope == doctest::Approx(2).epsilon(1e-12));
    CHECK(*exact.standard_error == doctest::Approx(0));
    // Logs base e: x 0 1 2, y 0 0 3. Slope 3/2, residuals 1/2 -1 1/2: sqrt(1.5 / 1 / 2).
    const double e = std::exp(1.0);
    const Exponent rough = fit_exponent({1, e, e * e}, {1, 1, e * e * e});
    CHECK(rough.slope == doctest::Approx(1.5));
    CHECK(*rough.standard_error == doctest::Approx(std::sqrt(0.75)));
    CHECK(!fit_exponent({1, 2}, {5, 4}).standard_error);
    check_error("fit_exponent: 1 and 1 values, want two or more of each", [] { fit_exponent({1}, {1}); });
    check_error("fit_exponent: the point (2, 0), want positive numbers", [] {
        fit_exponent({1, 2}, {1, 0});
    });
    check_error("fit_exponent: all points at one x", [] { fit_exponent({2, 2}, {1, 3}); });
}

TEST_CASE("scaling: a step that costs its operations has the expected exponents") {
    int lines = 0;
    const auto perfect = [](const ExperimentConfig& c) {
        const double flop = training_step_flops(c.model, c.batch_size, c.model.max_seq_len).total();
        return flop / 1e11 / static_cast<double>(c.threads ? c.threads : 4);
    };
    const auto series = measure_scaling(perfect, 4, [&](const std::string&) { ++lines; });
    CHECK(series.size() == 11);  // six axes of two models, but k only of the sparse one
    int points = 0;
    for (const ScalingSeries& s : series) {
        INFO(s.axis << ", " << s.attention);
        CHECK(s.measured.slope == doctest::Approx(s.expected.slope).epsilon(1e-9));
        points += static_cast<int>(s.values.size());
    }
    CHECK(lines == points);
    CHECK(series[0].expected.slope > series[1].expected.slope);  // T: classic grows faster than sparse
    CHECK(measure_scaling(perfect, 1, [](const std::string&) {}).size() == 9);

    const std::string table = scaling_table(series);
    CHECK(std::count(table.begin(), table.end(), '\n') == 13);
    CHECK(table.find("| threads | sparse | 1 window of 2048, k = 256 | 1, 2, 4 |") != std::string::npos);
    const nlohmann::ordered_json json = series;
    CHECK(json[0]["axis"] == "T");
    CHECK(json[0]["expected"].contains("standard_error"));
}
