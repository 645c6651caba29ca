// Running other programs from tests; above all a Python that has the packages that a test compares with, when
// the machine has one.
#pragma once

#include <optional>
#include <string>

namespace sieve::testing {

// The first of $SIEVE_PYTHON, the virtual environment build/python (see .ci/run), /usr/bin/python3, python3 and
// build/transformers (.ci/run) that can `import modules`, such as "onnx, onnxruntime"; looked for once.
std::optional<std::string> python_with(const std::string& modules);
inline std::optional<std::string> python_with_torch() {
    return python_with("torch");
}

// Runs a shell command; `output` receives what it printed (stdout and stderr). Returns its exit status, 128 +
// the signal's number when a signal ended it.
int run_command(const std::string& command, std::string& output);

// Writes `program` to a file in `folder` and runs it there; what it printed goes to `output`.
int run_python(const std::string& python, const std::string& program, const std::string& folder,
               std::string& output);

}  // namespace sieve::testing
