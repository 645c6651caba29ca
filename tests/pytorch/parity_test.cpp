// Runs the PyTorch comparisons. Without PyTorch they are skipped, and counted as such.
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/testing.h"

using namespace sieve::testing;

TEST_CASE("parity with PyTorch: logits, selections, losses and every gradient") {
    const auto python = python_with_torch();
    if (!python) return skip("no Python with PyTorch (Debian: python3-torch)");
    std::string output;
    const int status = run_command(*python + " " + source_dir() + "/tests/pytorch/parity_check.py", output);
    INFO(output);
    CHECK(status == 0);
}
