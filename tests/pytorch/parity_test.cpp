// The whole model against PyTorch: runs parity_check.py, which lists the cases and the tolerances.
#include <filesystem>

#include "tests/support/python.h"
#include "tests/support/testing.h"

using namespace sieve::testing;

TEST_CASE("parity with PyTorch: logits, selections, losses and gradients of the whole model") {
    const std::string source = SIEVE_SOURCE_DIR, program = source + "/tools/parity";
    const auto python = python_with_torch();
    if (!python) return skip("no Python with PyTorch found");
    if (!std::filesystem::exists(program)) return skip(program + " is not built");
    std::string output;
    const int status = run_command(
        *python + " '" + source + "/tests/pytorch/parity_check.py' --parity '" + program + "'", output);
    CHECK_MESSAGE(status == 0, output);
}
