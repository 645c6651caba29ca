#include "framework/io/json_file.h"

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
    CHECK_THROWS_AS(parse_json(std::string(100000, '['), "x"), Error);
}
