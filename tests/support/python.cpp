#include "tests/support/python.h"

#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <stdexcept>

#include "tests/support/source_dir.h"

namespace sieve::testing {

int run_command(const std::string& command, std::string& output) {
    output.clear();
    FILE* pipe = ::popen(("{ " + command + "\n} 2>&1").c_str(), "r");
    if (!pipe) throw std::runtime_error("cannot run " + command);
    char buffer[4096];
    while (const size_t got = std::fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, got);
    const int status = ::pclose(pipe);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::optional<std::string> python_with(const std::string& modules) {
    static std::map<std::string, std::optional<std::string>> found;
    if (const auto known = found.find(modules); known != found.end()) return known->second;
    const char* wanted = std::getenv("SIEVE_PYTHON");
    std::optional<std::string>& answer = found[modules];
    for (const std::string& python :
         {std::string(wanted ? wanted : ""), source_dir() + "/build/python/bin/python",
          std::string("/usr/bin/python3"), std::string("python3"),
          source_dir() + "/build/transformers/bin/python"}) {
        std::string output;
        if (!python.empty() && run_command(python + " -c 'import " + modules + "'", output) == 0) {
            answer = python;
            break;
        }
    }
    return answer;
}

int run_python(const std::string& python, const std::string& program, const std::string& folder,
               std::string& output) {
    const std::string file = folder + "/program.py";
    std::ofstream(file) << program;
    return run_command("cd '" + folder + "' && " + python + " " + file, output);
}

}  // namespace sieve::testing
