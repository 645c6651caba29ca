#include "framework/core/error.h"

#include "tests/support/testing.h"

using namespace sieve;

TEST_CASE("errors: a message is one line, of no great length, without commands to a terminal") {
    CHECK(one_line("x.pt: Größe 3 \u2013 \"a\"") == "x.pt: Größe 3 \u2013 \"a\"");
    CHECK(one_line("a\nb\tc\x1b[2Jd\x7f") == "a\\x0ab\\x09c\\x1b[2Jd\\x7f");
    CHECK(one_line("\u009b2J \u00e9") == "\\xc2\\x9b2J \u00e9");
    CHECK(one_line(std::string("\0", 1)) == "\\x00");
    const std::string cut = one_line("begin" + std::string(1 << 20, 'x') + "end");
    CHECK(cut.size() < 2100);
    CHECK(cut.starts_with("beginx"));
    CHECK(cut.ends_with("xend"));
    CHECK(std::string(Error(ErrorKind::usage, "a\nb").what()) == "a\\x0ab");
}

TEST_CASE("errors: a long value is named by its beginning and its size") {
    CHECK(shortened("blocks.0.norm1.weight") == "blocks.0.norm1.weight");
    CHECK(shortened(std::string(80, 'x')) == std::string(80, 'x'));
    CHECK(shortened(std::string(100000, 'x')) == std::string(80, 'x') + "... (100000 bytes)");
}
