// Behaviour of the renderer: pixels that must be covered, ticks, blank cells, files. Beauty is judged by eye.
#include <stb/stb_image.h>

#include <cmath>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/plot/canvas.h"
#include "framework/plot/figure.h"
#include "framework/plot/png.h"
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
    stbi_uc* pixels = stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(png.data()),
                                            static_cast<int>(png.size()), &width, &height, &channels, 3);
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

TEST_CASE("png: its size is read from a whole file only") {
    const std::string png = Canvas({30, 20}, 2).png();
    const auto size = png_size(png);
    REQUIRE(size);
    CHECK(size->width == 60);
    CHECK(size->height == 40);
    for (size_t length = 0; length < png.size(); ++length) CHECK(!png_size(png.substr(0, length)));
    CHECK(!png_size(png + "x"));
    CHECK(!png_size("<html>" + png));
    std::string huge = png;
    huge[8] = '\xff';  // the first chunk's length
    CHECK(!png_size(huge));
}

TEST_CASE("figures: fitted to plot areas of a wanted size") {
    Figure figure(1, 2, {50, 50}, 1);
    figure.title = "two maps";
    for (const int column : {0, 1})
        figure.at(0, column).heat_map({.rows = 2, .columns = 2, .values = {1, 2, 3, 4}, .color_bar = false});
    figure.fit_plots({120, 120});
    const Canvas canvas = figure.render();
    CHECK(canvas.width() > 240);
    CHECK(canvas.width() < 340);
    CHECK(canvas.height() > 140);
    CHECK(canvas.height() < 190);
    // Square cells: the largest value's colour fills a quarter of each map.
    int yellow = 0;
    const Color top = ColorMap::viridis().at(1);
    for (int y = 0; y < canvas.height(); ++y)
        for (int x = 0; x < canvas.width(); ++x)
            yellow += std::abs(canvas.pixel(x, y).r - 255 * top.r) < 2 &&
                      std::abs(canvas.pixel(x, y).b - 255 * top.b) < 2;
    CHECK(yellow == doctest::Approx(2 * 60 * 60).epsilon(0.05));
    figure.title = std::string(200, 'w');
    figure.fit_plots({120, 120});
    CHECK(figure.render().width() > 1000);
}

TEST_CASE("text: longer is wider, larger is wider, empty is nothing, foreign bytes are drawn as such") {
    CHECK(measure_text("loss and more", 10).width > measure_text("loss", 10).width);
    CHECK(measure_text("loss", 20).width ==
          doctest::Approx(2 * measure_text("loss", 10).width).epsilon(0.01));
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
                CHECK((at >= low - 1e-9 * std::abs(low) - 1e-9 * span &&
                       at <= high + 1e-9 * std::abs(high) + 1e-9 * span));
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
                const double apart =
                    std::abs(c.r - blank.r) + std::abs(c.g - blank.g) + std::abs(c.b - blank.b);
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

TEST_CASE("color bar: shows the colours of its map, undiluted, wherever it stands") {
    HeatMap::Options options{.rows = 1, .columns = 2, .values = {0, 1}, .map = ColorMap::magma()};
    const HeatMap map(options);
    for (const double offset : {0.0, 0.2, 0.37}) {
        Canvas canvas({60, 120}, 2);
        const Rect bar{10, 10 + offset, 20, 110 + offset};
        map.draw_color_bar(canvas, bar);
        for (const double share : {0.02, 0.25, 0.5, 0.75, 0.98}) {
            const double y = bar.y1 - share * bar.height();
            const Pixel p = canvas.pixel(30, static_cast<int>(y * 2));
            const Color want = options.map.at(share);
            CHECK(std::abs(p.r / 255.0 - want.r) < 0.03);
            CHECK(std::abs(p.g / 255.0 - want.g) < 0.03);
            CHECK(std::abs(p.b / 255.0 - want.b) < 0.03);
        }
    }
}

TEST_CASE("legend: the axes make room when it would cover data") {
    Axes axes;
    axes.bars({.values = {3.5, 3.6}, .label = "classic", .offset = -0.2, .width = 0.34}, {"last", "best"});
    axes.bars({.values = {3.6, 3.5}, .label = "sparse", .offset = 0.2, .width = 0.34}, {"last", "best"});
    const Rect plot{0, 0, 240, 200};
    const double with_legend = axes.transform(plot).y.high;
    axes.show_legend = false;
    CHECK(with_legend > 1.05 * axes.transform(plot).y.high);
    axes.show_legend = true;
    axes.y.high = 4;
    CHECK(axes.transform(plot).y.high == 4);
}

TEST_CASE("legend: stands between two lines rather than on one") {
    std::vector<Point> points;
    for (int x = 0; x <= 200; x += 2)
        for (const double y : {10.0, 40.0, 130.0}) points.push_back({double(x), y});
    const Rect box = place_legend({0, 0, 200, 150}, {80, 50}, points);
    for (const Point& p : points) CHECK(!box.contains(p));
}

TEST_CASE("names: shrink until neighbours do not touch, and not below what can be read") {
    const std::vector<std::string> names = {"classic", "sparse"};
    CHECK(fitted_name_size(names, 100, true, 9) == 9);
    const double size = fitted_name_size(names, 30, true, 9);
    CHECK(size < 9);
    CHECK(measure_text("classic", size).width < 30);
    CHECK(fitted_name_size(names, 5, false, 9) <= 5);
    CHECK(fitted_name_size(names, 0.1, false, 9) == 3);
}

TEST_CASE("bars: the numbers of one panel have equally many decimals") {
    const Bars bars({.values = {3.53, 3.6, -0.25, NAN}});
    CHECK(bars.value_label(0) == "3.53");
    CHECK(bars.value_label(1) == "3.60");
    CHECK(bars.value_label(2) == "−0.25");
    CHECK(std::isnan(bars.top(3)));
    CHECK(Bars({.values = {412.3}}).value_label(0) == "412");
    CHECK(Bars({.values = {1, 2}, .value_labels = {"one", "two"}}).value_label(1) == "two");
}

TEST_CASE("ticks: logarithmic ones are round, ascending, inside, and three to ten") {
    for (const int base : {2, 10})
        for (const double low : {1e-7, 0.3, 1.0, 150.0, 256.0})
            for (const double ratio : {1.01, 1.5, 6.0, 40.0, 1000.0, 1e9}) {
                INFO("base " << base << " from " << low << " times " << ratio);
                const Ticks ticks = log_ticks(low, low * ratio, base, 8);
                CHECK(ticks.at.size() >= 3);
                CHECK(ticks.at.size() <= 10);
                CHECK(ticks.at.size() == ticks.labels.size());
                for (size_t i = 0; i < ticks.at.size(); ++i) {
                    CHECK(ticks.at[i] >= low * (1 - 1e-9));
                    CHECK(ticks.at[i] <= low * ratio * (1 + 1e-9));
                    if (i > 0) CHECK(ticks.at[i] > ticks.at[i - 1]);
                }
            }
    CHECK(log_ticks(256, 16384, 2, 9).labels ==
          std::vector<std::string>{"256", "512", "1024", "2048", "4096", "8192", "16384"});
    CHECK(log_ticks(150, 900, 10, 8).labels == std::vector<std::string>{"200", "300", "400", "600", "800"});
    CHECK(format_number(-3.1e-7, 2) == "−3.1×10⁻⁷");
    CHECK(format_number(-0.0) == "0");
}

TEST_CASE("figures: axes without data say so and draw no numbers") {
    Figure empty(1, 1, {200, 150}), filled(1, 1, {200, 150});
    empty.at(0, 0).line({.x = {1, 2}, .y = {NAN, NAN}});
    empty.at(0, 0).heat_map({});
    CHECK(!empty.at(0, 0).has_data());
    filled.at(0, 0).no_data_text("");
    CHECK(dark_pixels(empty.render()) > dark_pixels(filled.render()));
}

TEST_CASE("heat map: cells are where they belong, and blank ones are hatched") {
    Axes axes;
    axes.heat_map({.rows = 2, .columns = 2, .values = {0, -INFINITY, 0.5, 1}, .color_bar = false});
    Canvas canvas({100, 100}, 1);
    const Rect plot{20, 20, 80, 80};
    axes.draw(canvas, plot);
    const auto near = [&](int x, int y, const Color& c) {
        const Pixel p = canvas.pixel(x, y);
        return std::abs(p.r - 255 * c.r) + std::abs(p.g - 255 * c.g) + std::abs(p.b - 255 * c.b) < 6;
    };
    CHECK(near(35, 35, ColorMap::viridis().at(0)));
    CHECK(near(35, 65, ColorMap::viridis().at(0.5)));
    CHECK(near(65, 65, ColorMap::viridis().at(1)));
    int plain = 0, hatch = 0;
    for (int y = 25; y < 45; ++y)
        for (int x = 55; x < 75; ++x)
            plain += near(x, y, colors::bad), hatch += near(x, y, colors::bad_hatch);
    CHECK(plain + hatch == 400);
    CHECK(plain > hatch);
    CHECK(hatch > 0);
}

TEST_CASE("text: without the font file the built-in letters do") {
    const Font font("/nowhere/DejaVuSans.ttf");
    CHECK(font.is_built_in());
    CHECK(font.measure("loss and more", 10).width > font.measure("loss", 10).width);
    Canvas canvas({120, 30}, 2);
    draw_text(canvas, {5, 20}, "x ≤ 2×10²", {.size = 12}, font);
    CHECK(dark_pixels(canvas) > 50);
}

TEST_CASE("canvas: refuses a picture too large to encode") {
    check_error("canvas: 32768 x 32768 pixels are too many", [] { Canvas canvas({32768, 32768}); });
}

TEST_CASE("lines: error bars are drawn, and the axis reaches out for them") {
    Axes axes;
    axes.line({.x = {0, 1, 2}, .y = {5, 5, 5}, .color = colors::black, .width = 1, .errors = {0, 3, NAN}});
    const Rect plot{20, 20, 120, 120};
    const Transform t = axes.transform(plot);
    CHECK(t.y.low <= 2);
    CHECK(t.y.high >= 8);
    Canvas canvas({140, 140}, 2);
    axes.draw(canvas, plot);
    const auto dark_at = [&](double x, double y) {
        const Point p = t(x, y);
        return canvas.pixel(static_cast<int>(2 * p.x), static_cast<int>(2 * p.y)).r < 200;
    };
    CHECK(dark_at(1, 7));
    CHECK(dark_at(1, 3));
    CHECK(!dark_at(0.05, 7));
    CHECK(!dark_at(1.95, 3));
}
