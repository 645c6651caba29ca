#include "framework/core/available_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "framework/core/system_files.h"

namespace sieve {
namespace {

int64_t number_in(const char* path, const char* key) {
    return number_after(key, system_text(path));
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
