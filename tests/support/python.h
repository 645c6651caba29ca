// Running other programs from tests; above all a Python that has some module, when the machine
// has one.
#pragma once

#include <optional>
#include <string>

namespace sieve::testing {

// The first of $SIEVE_PYTHON, build/python (where .ci/run installs from PyPI), /usr/bin/python3 and python3
// that can import the module; looked for once a module.
std::optional<std::string> python_with(const std::string& module);
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
