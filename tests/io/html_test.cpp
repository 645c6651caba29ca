#include "framework/io/html.h"

#include "tests/support/testing.h"

using namespace sieve;

TEST_CASE("html: what could end an element or an attribute is escaped") {
    CHECK(escape_html("a <b> & \"c\" 'd'") == "a &lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
    CHECK(escape_html("Größe\n\t") == "Größe\n\t");
    CHECK(escape_html(std::string("x\0\x1b\x7f", 4)) == "x\uFFFD\uFFFD\uFFFD");
    CHECK(escape_html("").empty());
}

TEST_CASE("base64: the examples of RFC 4648") {
    const char* const examples[][2] = {{"", ""},
                                       {"f", "Zg=="},
                                       {"fo", "Zm8="},
                                       {"foo", "Zm9v"},
                                       {"foob", "Zm9vYg=="},
                                       {"fooba", "Zm9vYmE="},
                                       {"foobar", "Zm9vYmFy"}};
    for (const auto& [bytes, text] : examples) CHECK(base64(bytes) == text);
    CHECK(base64("\xff\xff\xfe") == "///+");
}
