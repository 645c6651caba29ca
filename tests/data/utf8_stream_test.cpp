#include "framework/data/utf8_stream.h"

#include "framework/data/unicode.h"
#include "tests/support/testing.h"

using namespace sieve;

TEST_CASE("utf8_stream: characters appear when they are whole, however the bytes arrive") {
    const std::string text = "na\u00EFve \u20AC \U0001F600 \u65E5\u672C!";
    for (size_t piece = 1; piece <= 5; ++piece) {
        Utf8Stream stream;
        std::string shown;
        for (size_t at = 0; at < text.size(); at += piece) {
            const std::string part = stream.push(text.substr(at, piece));
            CHECK(count_invalid_utf8(part) == 0);
            shown += part;
        }
        CHECK(shown == text);
        CHECK(stream.finish().empty());
    }
}

TEST_CASE("utf8_stream: a character is shown with its last byte, not later") {
    Utf8Stream stream;
    CHECK(stream.push("a\xE2\x82") == "a");
    CHECK(stream.push("\xAC") == "\u20AC");
    CHECK(stream.push("") == "");
}

TEST_CASE("utf8_stream: bytes of no character become U+FFFD, at once where they cannot be completed") {
    Utf8Stream stream;
    CHECK(stream.push("a\x80z") == "a\uFFFDz");
    CHECK(stream.push("\xFF") == "\uFFFD");
    CHECK(stream.push("\xE2\x82") == "");
    CHECK(stream.push("b") ==
          "\uFFFD\uFFFD"
          "b");
    CHECK(stream.push("\xC0\xAF") == "\uFFFD\uFFFD");  // overlong
    CHECK(stream.push("\xF0\x9F") == "");
    CHECK(stream.push("b") ==
          "\uFFFD\uFFFD"
          "b");  // a fourth byte could not help
    CHECK(stream.push("\xF0\x9F") == "");
    CHECK(stream.finish() == "\uFFFD\uFFFD");
    CHECK(stream.finish() == "");
}
