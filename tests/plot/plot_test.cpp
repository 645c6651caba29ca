// Behaviour of the renderer: pixels that must be covered, ticks, blank cells, files. Beauty is judged by eye.
#include <stb/stb_image.h>

#include <cmath>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/plot/canvas.h"
#include "framework/plot/figure.h"
#include "framework/plot/text.h"
#include "framework/plot/ticks.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::plot;
using sieve::testing::check_error;
using sieve::testing::TemporaryFolder;

namespace {

constexpr Pixel white{255, 255, 255}, black{0, 0, 0};

int dark_pixels(const Canvas& canvas) {
    int count = 0;
    for (int y = 0; y < canvas.height(); ++y)
        for (int x = 0; x < canvas.width(); ++x) count += canvas.pixel(x, y).r < 128;
    return count;
}

}  // namespace

TEST_CASE("canvas: shapes cover what they should, and nothing else") {
    Canvas canvas({40, 30}, 2);
    CHECK(canvas.width() == 80);
    CHECK(canvas.height() == 60);
    canvas.fill_rect({10, 5, 20, 15}, colors::black);
    CHECK(canvas.pixel(20, 10) == black);
    CHECK(canvas.pixel(39, 29) == black);
    CHECK(canvas.pixel(40, 29) == white);
    CHECK(canvas.pixel(19, 10) == white);
    CHECK(dark_pixels(canvas) == 20 * 20);

    Canvas circle({50, 50}, 2);
    circle.fill_circle({25, 25}, 20, colors::black);
    CHECK(dark_pixels(circle) == doctest::Approx(3.14159 * 40 * 40).epsilon(0.01));

    Canvas line({50, 50}, 2);
    const Point ends[] = {{5, 25}, {45, 25}};
    line.stroke(ends, 4, colors::black);
    CHECK(line.pixel(50, 50) == black);
    CHECK(line.pixel(50, 40) == white);
    CHECK(dark_pixels(line) == doctest::Approx(80 * 8 + 3.14159 * 16).epsilon(0.05));
}

TEST_CASE("canvas: alpha mixes, clips limit, wild coordinates are harmless") {
    Canvas canvas({10, 10});
    canvas.fill_rect({0, 0, 10, 10}, colors::black.with_alpha(0.5));
    CHECK(std::abs(canvas.pixel(5, 5).r - 128) <= 1);
    Canvas clipped({10, 10});
    clipped.set_clip({0, 0, 5, 10});
    clipped.fill_rect({0, 0, 10, 10}, colors::black);
    CHECK(clipped.pixel(4, 5) == black);
    CHECK(clipped.pixel(5, 5) == white);
    const Point wild[] = {{-1e9, 5}, {1e9, 5}, {NAN, 3}};
    clipped.stroke(wild, 1, colors::black);
    CHECK_THROWS_AS(Canvas({0, 10}), Error);
}

TEST_CASE("png: decodes to the pixels that were drawn") {
    Canvas canvas({30, 20}, 2, colors::blue);
    canvas.fill_rect({3, 3, 9, 9}, colors::orange);
    const std::string png = canvas.png();
    int width = 0, height = 0, channels = 0;
    stbi_uc* pixels = stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(png.data()), static_cast<int>(png.size()),
                                            &width, &height, &channels, 3);
    REQUIRE(pixels != nullptr);
    CHECK(width == 60);
    CHECK(height == 40);
    int different = 0;
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            const stbi_uc* p = pixels + 3 * (y * width + x);
            different += !(canvas.pixel(x, y) == Pixel{p[0], p[1], p[2]});
        }
    CHECK(different == 0);
    stbi_image_free(pixels);
}

TEST_CASE("text: longer is wider, larger is wider, empty is nothing, foreign bytes are drawn as such") {
    CHECK(measure_text("loss and more", 10).width > measure_text("loss", 10).width);
    CHECK(measure_text("loss", 20).width == doctest::Approx(2 * measure_text("loss", 10).width).epsilon(0.01));
    CHECK(measure_text("", 10).width == 0);
    CHECK(decode_utf8("a\xc3\x97\xff").size() == 3);
    CHECK(decode_utf8("\xff")[0] == 0xFFFD);
    Canvas canvas({100, 30}, 2);
    draw_text(canvas, {5, 20}, "Sieve", {.size = 16});
    CHECK(dark_pixels(canvas) > 100);
}

TEST_CASE("ticks: round numbers inside the range, three to ten of them") {
    for (const double start : {-1000.0, -1.0, 0.0, 1e-7, 3.14159, 98765.0})
        for (const double span : {1e-6, 0.003, 1.0, 7.0, 123.0, 5e5}) {
            double low = start, high = start + span;
            make_usable_range(low, high);  // as axes do
            const Ticks ticks = linear_ticks(low, high, 8);
            INFO("from " << low << " to " << high);
            CHECK(ticks.at.size() >= 3);
            CHECK(ticks.at.size() <= 10);
            CHECK(ticks.at.size() == ticks.labels.size());
            for (const double at : ticks.at)
                CHECK((at >= low - 1e-9 * std::abs(low) - 1e-9 * span && at <= high + 1e-9 * std::abs(high) + 1e-9 * span));
            for (size_t i = 1; i < ticks.at.size(); ++i) CHECK(ticks.at[i] > ticks.at[i - 1]);
        }
    const Ticks simple = linear_ticks(0, 10, 6);
    CHECK(simple.labels.front() == "0");
    CHECK(simple.labels.back() == "10");
    CHECK(log_ticks(1, 1e6, 10, 8).at.size() >= 3);
    double low = 5, high = 5;
    make_usable_range(low, high);
    CHECK(low < 5);
    CHECK(high > 5);
}

TEST_CASE("figures: NaN, infinite and missing data draw something and never crash") {
    Figure figure(2, 2, {400, 300});
    figure.title = "odd data";
    figure.at(0, 0).line({.x = {0, 1, 2, 3}, .y = {1, NAN, INFINITY, 2}, .label = "gaps"});
    figure.at(0, 1).line({.x = {1}, .y = {5}, .label = "one point"});
    figure.at(1, 0).title = "empty";
    figure.at(1, 1).y.scale = Scale::log10;
    figure.at(1, 1).line({.x = {1, 2, 3}, .y = {0, -1, 100}});
    CHECK(dark_pixels(figure.render()) > 500);
}

TEST_CASE("heat map: a cell without a value looks like no colour of the map") {
    for (const ColorMap& map : {ColorMap::viridis(), ColorMap::magma(), ColorMap::diverging()})
        for (int i = 0; i <= 100; ++i)
            for (const Color& blank : {colors::bad, colors::bad_hatch}) {
                const Color c = map.at(i / 100.0);
                const double apart = std::abs(c.r - blank.r) + std::abs(c.g - blank.g) + std::abs(c.b - blank.b);
                CHECK(apart > 0.05);
            }
    CHECK_THROWS_AS(HeatMap({.rows = 2, .columns = 2, .values = {1, 2, 3}}), Error);
    const HeatMap map({.rows = 1, .columns = 3, .values = {1, NAN, 3}});
    CHECK(map.low() == 1);
    CHECK(map.high() == 3);
}

TEST_CASE("legend: goes where the fewest points are") {
    std::vector<Point> points;
    for (int i = 0; i < 50; ++i) points.push_back({60.0 + i % 40, 5.0 + i % 30});  // upper right
    const Rect box = place_legend({0, 0, 100, 100}, {30, 20}, points);
    int covered = 0;
    for (const Point& p : points) covered += box.contains(p);
    CHECK(covered == 0);
}

TEST_CASE("figures: an unwritable place is one clear error and the old file stays") {
    const TemporaryFolder folder;
    Figure figure(1, 1, {100, 80});
    figure.at(0, 0).line({.x = {0, 1}, .y = {0, 1}});
    figure.save(folder / "a.png");
    const std::string before = read_file(folder / "a.png");
    fail_file_step_after(2);
    CHECK_THROWS_AS(figure.save(folder / "a.png"), Error);
    fail_file_step_after(0);
    CHECK(read_file(folder / "a.png") == before);
    CHECK_THROWS_AS(figure.save("/nowhere/a.png"), Error);
}
