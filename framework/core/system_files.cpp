#include "framework/core/system_files.h"

#include <fstream>
#include <sstream>

namespace sieve {

std::string system_text(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

int64_t number_after(const std::string& key, const std::string& text) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (line.compare(0, key.size(), key) != 0) continue;
        int64_t value = -1;
        std::istringstream rest(line.substr(key.size()));
        return rest >> value ? value : -1;
    }
    return -1;
}

}  // namespace sieve
