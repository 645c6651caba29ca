// Flags are the programs': what lies below framework/program is used without a command line as well.
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>

#include "tests/support/source_dir.h"
#include "tests/support/testing.h"

using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

bool is_source(const fs::path& path) {
    const std::set<std::string> kinds{".h", ".cpp", ".cu", ".cuh"};
    return kinds.contains(path.extension().string());
}

// "gemm.cpp:7: --batch_size" of every text in quotes that holds a flag.
std::vector<std::string> flags_in(const fs::path& path) {
    static const std::regex text(R"re("(\\.|[^"\\])*")re"), flag("--[a-z][a-z_0-9]*");
    std::vector<std::string> found;
    std::ifstream file(path);
    int number = 0;
    for (std::string line; std::getline(file, line);) {
        ++number;
        for (auto quoted = std::sregex_iterator(line.begin(), line.end(), text);
             quoted != std::sregex_iterator(); ++quoted) {
            const std::string inside = quoted->str();
            std::smatch match;
            if (std::regex_search(inside, match, flag))
                found.push_back(path.string() + ":" + std::to_string(number) + ": " + match.str());
        }
    }
    return found;
}

}  // namespace

TEST_CASE("flags: no text below framework/program names one") {
    const std::set<std::string> rooms_of_programs{"program", "train", "measure", "report", "runs"};
    const fs::path root = source_dir();
    std::vector<fs::path> rooms{root / "models"};
    for (const fs::directory_entry& room : fs::directory_iterator(root / "framework"))
        if (!rooms_of_programs.contains(room.path().filename().string())) rooms.push_back(room.path());
    int64_t files = 0;
    for (const fs::path& room : rooms)
        for (const fs::directory_entry& entry : fs::recursive_directory_iterator(room)) {
            if (!is_source(entry.path())) continue;
            ++files;
            for (const std::string& flag : flags_in(entry.path())) FAIL_CHECK(flag);
        }
    CHECK(files > 100);
    CHECK(!flags_in(root / "framework/program/command_line.cpp").empty());  // it does see flags
}
