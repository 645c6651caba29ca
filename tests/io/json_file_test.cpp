#include "framework/io/json_file.h"

#include <bit>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
using nlohmann::ordered_json;

TEST_CASE("json_file: values and the order of keys survive") {
    const TemporaryFolder folder;
    const ordered_json document = {
        {"steps", {0, 100, 200}}, {"a", 0.1}, {"big", 1e300}, {"text", "caf\u00e9 \"x\""}, {"none", nullptr}};
    write_json_atomic(folder / "x.json", document);
    CHECK(read_json(folder / "x.json") == document);
    CHECK(read_json(folder / "x.json").begin().key() == "steps");
}

TEST_CASE("json_file: a value that JSON cannot hold is refused by its key path, and no file appears") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.json";
    const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
    check_error(path + ": loss.val[1] is nan, which JSON cannot hold", [&] {
        write_json_atomic(path, {{"loss", {{"val", {1.0, nan}}}}});
    });
    check_error(path + ": [0] is -inf, which JSON cannot hold",
                [&] { write_json_atomic(path, ordered_json::array({-inf})); });
    check_error(path + ": the document is inf, which JSON cannot hold",
                [&] { write_json_atomic(path, inf); });
    CHECK_THROWS_AS(write_json_atomic(path, "\xff"), Error);
    CHECK(!std::filesystem::exists(path));
}

TEST_CASE("json_file: syntax errors say where; an equal key is refused") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.json";
    write_file_atomic(path, "{\n  \"a\": 1,\n  \"b\" 2\n}\n");
    try {
        read_json(path);
        FAIL("nothing was thrown");
    } catch (const Error& e) {
        CHECK(std::string(e.what()).starts_with(path + ":3:7: "));
        CHECK(std::string(e.what()).find("expected ':'") != std::string::npos);
    }
    check_error("x: the key \"a\" appears twice in one object",
                [] { parse_json(R"({"a": 1, "b": {"a": 2}, "a": 3})", "x"); });
    CHECK_THROWS_AS(parse_json("", "x"), Error);
    CHECK_THROWS_AS(parse_json("{} x", "x"), Error);
    CHECK_THROWS_AS(parse_json("[1e999]", "x"), Error);
    CHECK_THROWS_AS(parse_json("[\"\xff\"]", "x"), Error);
}

namespace {

std::string error_of(const std::string& text) {
    try {
        parse_json(text, "x");
    } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::bad_file);
        return e.what();
    }
    return "";
}

std::string repeated(const std::string& part, size_t times) {
    std::string all;
    all.reserve(part.size() * times);
    for (size_t i = 0; i < times; ++i) all += part;
    return all;
}

}  // namespace

TEST_CASE("json_file: 64 levels are read, more are refused before the library sees them") {
    const std::string deep = repeated("[", 63) + R"({"]": "[[\"[["})" + repeated("]", 63);
    CHECK(parse_json(deep, "x").dump() ==
          R"()" + repeated("[", 63) + R"({"]":"[[\"[["})" + repeated("]", 63));
    CHECK(error_of("\n[" + deep + "]") == "x:2:65: more than 64 levels of brackets");
    // Enough to exhaust a stack, were it walked through by calls: closed, open, and in a message about a
    // value.
    const size_t many = 3'000'000;
    CHECK(error_of(repeated("[", many) + repeated("]", many)) == "x:1:65: more than 64 levels of brackets");
    CHECK(error_of(repeated("{\"a\":", many)) == "x:1:321: more than 64 levels of brackets");
    CHECK(error_of("{\"d_model\": " + repeated("[", many)) == "x:1:76: more than 64 levels of brackets");
}

TEST_CASE("json_file: what would take far more memory than the text is refused, what people write is not") {
    const std::string refused =
        "x: refused, as reading it would take far more memory than a file of its size needs";
    CHECK(error_of("[" + repeated("[],", 4'000'000) + "0]") == refused);
    CHECK(error_of("\"" + std::string(20'000'000, 'x') + "\"") == refused);
    const std::string numbers = "[" + repeated("0.12345678901234567,", 500'000) + "0]";
    CHECK(parse_json(numbers, "x").size() == 500'001);
    CHECK(parse_json("\"" + std::string(6'000'000, 'x') + "\"", "x").get<std::string>().size() == 6'000'000);
}

TEST_CASE("json_file: many keys of one object are read in no time, and two equal ones are found among them") {
    std::string text = "{";
    for (int i = 0; i < 100'000; ++i) text += "\"k" + std::to_string(i) + "\": 0, ";
    CHECK(parse_json(text + "\"last\": 1}", "x").size() == 100'001);
    CHECK(error_of(text + "\"k77777\": 1}") == "x: the key \"k77777\" appears twice in one object");
}

TEST_CASE("json_file: messages show values in short") {
    const std::string big(1'000'000, 'x');
    for (const std::string& text : {"[tr" + big, "{\"" + big + "\": 1, \"" + big + "\": 2}", big}) {
        const std::string message = error_of(text);
        CHECK(message.size() > 10);
        CHECK(message.size() < 2100);
        CHECK(message.find('\n') == std::string::npos);
    }
    CHECK(error_of("[1e999]").ends_with(": number overflow parsing '1e999'"));
    CHECK(shown(ordered_json(big)).size() < 100);
    CHECK(shown({1, 2.5, "a"}) == "[1,2.5,\"a\"]");
    CHECK(shown(ordered_json(std::vector<int>(1'000'000))) == "a list");
    CHECK(shown({{"a", 1}}) == "an object");
}

TEST_CASE(
    "json_file: one representation of every double, and what was saved is what is loaded, bit for bit") {
    const TemporaryFolder folder;
    const double inf = std::numeric_limits<double>::infinity();
    for (const double value :
         {0.0, -0.0, 5e-324, 1e-310, 1e308, -1.7976931348623157e308, 1.0 / 3, inf, -inf, std::nan("")}) {
        write_json_atomic(folder / "x.json", {{"value", json_number(value)}});
        const auto back = number_in(read_json(folder / "x.json").at("value"));
        REQUIRE(back);
        CHECK_MESSAGE(std::bit_cast<uint64_t>(*back) == std::bit_cast<uint64_t>(value), value);
    }
    CHECK(json_number(inf) == "inf");
    CHECK(json_number(-inf) == "-inf");
    CHECK(json_number(std::nan("")) == "nan");
    CHECK(std::isnan(number_in(nullptr).value()));  // older files
    CHECK(number_in(3) == 3);
    for (const ordered_json& none :
         {ordered_json("Infinity"), ordered_json(true), ordered_json::array({1.0})})
        CHECK(!number_in(none));
}

TEST_CASE("json_file: whole numbers, however they are written, and nothing else") {
    CHECK(whole_number_in(3000) == 3000);
    CHECK(whole_number_in(3e3) == 3000);
    CHECK(whole_number_in(-4.0) == -4);
    CHECK(whole_number_in(INT64_MIN) == INT64_MIN);
    CHECK(whole_number_in(uint64_t{1} << 62) == int64_t{1} << 62);
    for (const ordered_json& none :
         {ordered_json(2.5), ordered_json(1e300), ordered_json(1e17), ordered_json(UINT64_MAX),
          ordered_json("3"), ordered_json(true), ordered_json()})
        CHECK_MESSAGE(!whole_number_in(none), none.dump());
}

TEST_CASE("json_file: what errors show of a value and of the library's messages") {
    CHECK(shown(ordered_json::array({1, "x", nullptr})) == "[1,\"x\",null]");
    CHECK(shown(ordered_json::array({ordered_json::array({1})})) == "a list");
    CHECK(shown({{"a", 1}}) == "an object");
    CHECK(shown(std::string(100, 'a')) == "\"" + std::string(59, 'a') + "...");
    CHECK(shown("\xff") == "\"\uFFFD\"");
    CHECK(json_reason("[json.exception.type_error.302] type must be string, but is number") ==
          "type must be string, but is number");
    CHECK(json_reason(
              "[json.exception.parse_error.101] parse error at line 1, column 3: syntax error while parsing "
              "value - invalid literal; last read: '1x'; expected ':'") ==
          "syntax error while parsing value - invalid literal; expected ':'");
    CHECK(json_reason("of another library: x") == "of another library: x");
    for (const char* broken : {"{\"a\" 1}", "[1e999]", "[\"\xff\"]", "nul", "{\"a\": \"b"}) try {
            parse_json(broken, "x");
            FAIL("nothing was thrown");
        } catch (const Error& e) {
            const std::string what = e.what();
            CHECK_MESSAGE((what.find("json.exception") == std::string::npos &&
                           what.find("last read") == std::string::npos),
                          what);
        }
}
