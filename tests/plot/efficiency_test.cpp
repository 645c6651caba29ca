#include "framework/plot/figures/efficiency.h"

#include <cmath>

#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::plot;
using sieve::testing::check_error;
using Kind = Efficiency::Kind;

TEST_CASE("efficiency figure: draws what was measured, and only that") {
    const Efficiency e{.title = "by length",
                       .lengths = {512, 1024, 2048},
                       .stages = {{.name = "Training step",
                                   .variants = {{.kind = Kind::classic,
                                                 .seconds = {0.01, 0.03, 0.10},
                                                 .low = {0.009, 0.02, 0.09},
                                                 .high = {0.02, 0.05, 0.11}},
                                                {.kind = Kind::materialised, .seconds = {0.02, NAN, NAN}},
                                                {.kind = Kind::sparse, .seconds = {0.012, 0.028, NAN}}},
                                   .bound = {0.9, 1.1, 1.5}}}};
    Figure figure = efficiency_figure(e);
    CHECK(figure.at(0, 0).has_data());
    CHECK(figure.at(0, 1).has_data());
    CHECK(!figure.at(0, 2).has_data());  // no memory was measured
    const Canvas canvas = figure.render();
    CHECK(canvas.width() == 2160);
    CHECK(canvas.height() == 680);
    // The speed-up panel reaches from the smallest ratio (0.83) to the largest (1.67, over materialised).
    const Transform t = figure.at(0, 1).transform({0, 0, 300, 200});
    CHECK(t.y.low < 0.83);
    CHECK(t.y.high > 1.66);
}

TEST_CASE("efficiency figure: nothing measured is no error, series of unequal length are") {
    Figure empty = efficiency_figure({});
    for (int i = 0; i < 3; ++i) CHECK(!empty.at(0, i).has_data());
    empty.render();
    check_error("efficiency: bound has 1 values, want 2, one a length", [] {
        efficiency_figure({.lengths = {1, 2}, .stages = {{.bound = {1}}}});
    });
    check_error("efficiency: high has 3 values, want 2, one a length", [] {
        efficiency_figure({.lengths = {1, 2}, .stages = {{.variants = {{.high = {1, 2, 3}}}}}});
    });
}
