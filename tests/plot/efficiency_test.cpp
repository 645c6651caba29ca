#include "framework/plot/figures/efficiency.h"

#include <cmath>

#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::plot;
using sieve::testing::check_error;

TEST_CASE("efficiency figure: draws what was measured, and only that") {
    Efficiency e{.title = "by length",
                 .lengths = {512, 1024, 2048},
                 .classic_seconds = {0.01, 0.03, 0.10},
                 .sparse_seconds = {0.012, 0.028, NAN},
                 .classic_seconds_sd = {0.001, 0.05, 0.01},  // wider than the mean: the band ends at the axis
                 .bound = {0.9, 1.1, 1.5}};
    Figure figure = efficiency_figure(e);
    CHECK(figure.at(0, 0).has_data());
    CHECK(figure.at(0, 1).has_data());
    CHECK(!figure.at(0, 2).has_data());  // no memory was measured
    const Canvas canvas = figure.render();
    CHECK(canvas.width() == 2040);
    CHECK(canvas.height() == 660);
    // The speed-up panel reaches from the smallest ratio (0.83) to the bound (1.5), with 1 inside.
    const Transform t = figure.at(0, 1).transform({0, 0, 300, 200});
    CHECK(t.y.low < 0.83);
    CHECK(t.y.high > 1.5);
}

TEST_CASE("efficiency figure: nothing measured is no error, series of unequal length are") {
    Figure empty = efficiency_figure({});
    for (int i = 0; i < 3; ++i) CHECK(!empty.at(0, i).has_data());
    empty.render();
    check_error("efficiency: bound has 1 values, want 2, one a length", [] {
        efficiency_figure({.lengths = {1, 2}, .bound = {1}});
    });
}
