#include "tests/cuda_emulation/tests/testing.h"

#include <sys/wait.h>
#include <unistd.h>

#include <exception>

namespace sieve::emulation_testing {

std::string error_of(const std::function<void()>& body) {
    try {
        body();
    } catch (const std::exception& error) {
        return error.what();
    }
    return "";
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

Child run_in_child(const std::function<void()>& body) {
    constexpr int survived = 123;
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        body();
        _exit(survived);
    }
    close(ends[1]);
    Child result{.died = false, .output = {}};
    char buffer[4096];
    for (ssize_t bytes; (bytes = read(ends[0], buffer, sizeof buffer)) > 0;)
        result.output.append(buffer, bytes);
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    result.died = !(WIFEXITED(status) && WEXITSTATUS(status) == survived);
    return result;
}

}  // namespace sieve::emulation_testing
