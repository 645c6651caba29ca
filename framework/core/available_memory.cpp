#include "framework/core/available_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

namespace sieve {
namespace {

// The number that follows `key` in a file of the system; -1 when there is none.
int64_t number_in(const char* path, const std::string& key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (line.compare(0, key.size(), key) != 0) continue;
        int64_t value = -1;
        std::istringstream rest(line.substr(key.size()));
        return rest >> value ? value : -1;
    }
    return -1;
}

}  // namespace

int64_t available_memory() {
    int64_t available = number_in("/proc/meminfo", "MemAvailable:");
    available = available < 0 ? std::numeric_limits<int64_t>::max() : available << 10;
    const int64_t group_limit = number_in("/sys/fs/cgroup/memory.max", "");
    const int64_t group_used = number_in("/sys/fs/cgroup/memory.current", "");
    if (group_limit > 0 && group_used >= 0) available = std::min(available, group_limit - group_used);
    rlimit space{};
    const int64_t pages = number_in("/proc/self/statm", "");
    if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY && pages >= 0)
        available = std::min(available, static_cast<int64_t>(space.rlim_cur) - pages * sysconf(_SC_PAGESIZE));
    return std::max<int64_t>(available, 0);
}

}  // namespace sieve
