#include "framework/io/marked_section.h"

#include "framework/io/atomic_file.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("marked_section: only what stands between the markers changes, again and again") {
    const TemporaryFolder folder;
    const std::string page = folder / "page.md";
    write_file_atomic(page, "before\n<!-- a -->\nold\n<!-- /a -->\nbetween\n<!-- b -->\n<!-- /b -->\n");
    replace_marked_section(page, "a", "new\n");
    replace_marked_section(page, "b", "text\n");
    replace_marked_section(page, "a", "newer\nlines\n");
    CHECK(read_file(page) ==
          "before\n<!-- a -->\nnewer\nlines\n<!-- /a -->\nbetween\n<!-- b -->\ntext\n<!-- /b -->\n");
    CHECK(marked_section(page, "a") == "newer\nlines\n");
    CHECK(marked_section(page, "b") == "text\n");
}

TEST_CASE("marked_section: a missing marker is named and nothing is written") {
    const TemporaryFolder folder;
    const std::string page = folder / "page.md";
    for (const char* text : {"", "<!-- a -->\n", "<!-- /a -->\n<!-- a -->\n"}) {
        write_file_atomic(page, text);
        check_error(page + ": want a line <!-- a --> and after it a line <!-- /a -->",
                    [&] { replace_marked_section(page, "a", "new\n"); });
        check_error(page + ": want a line <!-- a --> and after it a line <!-- /a -->",
                    [&] { marked_section(page, "a"); });
        CHECK(read_file(page) == text);
    }
}
