// Folders of Hugging Face's transformers: theirs read here, ours read there. Without the package this is skipped.
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve::testing;

TEST_CASE("transformers: logits, selections and gradients of its folders, and our folders in it") {
    const auto python = python_with("torch, transformers");
    if (!python) return skip("no Python with torch and transformers (.ci/run makes one)");
    const TemporaryFolder folder;
    std::string output;
    const int status =
        run_command(*python + " " + source_dir() + "/tests/transformers/transformers_check.py " +
                        source_dir() + " " + folder.path().string(),
                    output);
    INFO(output);
    CHECK(status == 0);
}
