#include "framework/core/core_share.h"

#include <dirent.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <sstream>
#include <thread>

#include "framework/core/system_files.h"
#include "framework/core/threads.h"

namespace sieve {
namespace {

using Clock = std::chrono::steady_clock;

// "0::/user.slice/x": the group of the one hierarchy (version 2); of version 1 the line that names "cpu".
std::string group_path(const std::string& cgroup, bool version_2) {
    std::istringstream lines(cgroup);
    for (std::string line; std::getline(lines, line);) {
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
        if (version_2 ? controllers == ",," : controllers.find(",cpu,") != std::string::npos)
            return line.substr(second + 1);
    }
    return "";
}

double quota_of_group(const std::string& folder) {
    if (const std::string text = system_text(folder + "/cpu.max"); !text.empty()) return quota_in(text);
    const auto number = [&](const char* file) {
        return static_cast<double>(number_after("", system_text(folder + file)));
    };
    const double quota = number("/cpu.cfs_quota_us"), period = number("/cpu.cfs_period_us");
    return quota > 0 && period > 0 ? quota / period : std::numeric_limits<double>::infinity();
}

// Inside a container the group's own folder may be the root, and the path that of the host: both are looked at.
double lowest_quota(const std::string& root, std::filesystem::path group) {
    double lowest = quota_of_group(root);
    for (; group.has_relative_path(); group = group.parent_path())
        lowest = std::min(lowest, quota_of_group(root + group.string()));
    return lowest;
}

// Threads of this process that run or spin now.
int own_running() {
    int running = 0;
    DIR* tasks = opendir("/proc/self/task");
    if (!tasks) return 1;
    while (const dirent* task = readdir(tasks)) {
        if (task->d_name[0] == '.') continue;
        const std::string stat = system_text(std::string("/proc/self/task/") + task->d_name + "/stat");
        const size_t name_end = stat.rfind(')');  // the name may hold anything
        running += name_end != std::string::npos && stat.compare(name_end, 4, ") R ") == 0;
    }
    closedir(tasks);
    return std::max(running, 1);
}

// -1 where the system does not tell.
int others_running() {
    const int running = running_processes(system_text("/proc/stat"));
    return running < 0 ? -1 : std::max(0, running - own_running());
}

// At first it looks a few times in a row, so that the first step already has the right team.
struct Watch {
    CoreShare share{available_cores(), static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN))};
    Clock::time_point looked;  // long ago
    bool said = false;

    Watch() {
        for (int look = 0; look < 5; ++look) {
            if (const int running = others_running(); running >= 0) share.note(1, running);
            std::this_thread::sleep_for(std::chrono::milliseconds(4));
        }
    }
};

}  // namespace

int running_processes(const std::string& stat) {
    return static_cast<int>(number_after("procs_running ", stat));
}

double quota_in(const std::string& cpu_max) {
    double quota = 0, period = 0;
    std::istringstream numbers(cpu_max);
    return numbers >> quota >> period && quota > 0 && period > 0 ? quota / period
                                                                 : std::numeric_limits<double>::infinity();
}

double cpu_quota() {
    const std::string groups = system_text("/proc/self/cgroup");
    return std::min(lowest_quota("/sys/fs/cgroup", group_path(groups, true)),
                    lowest_quota("/sys/fs/cgroup/cpu", group_path(groups, false)));
}

int available_cores() {
    static const int cores = [] {
        const double quota = std::ceil(cpu_quota());
        return std::max(1, quota < omp_get_max_threads() ? static_cast<int>(quota) : omp_get_max_threads());
    }();
    return cores;
}

int CoreShare::note(double seconds, int running) {
    constexpr double memory = 1, most_weight = 0.4;
    busy_ += (running - busy_) * std::min(seconds / memory, most_weight);
    return std::clamp(cores_ - static_cast<int>(std::lround(busy_)), 1, most_);
}

void share_cores() {
    if (thread_count_is_set()) return;
    static Watch watch;
    const double seconds = std::chrono::duration<double>(Clock::now() - watch.looked).count();
    if (seconds < 0.25) return;
    watch.looked = Clock::now();
    const int running = others_running();
    if (running < 0) return;
    const int most = available_cores(), team = watch.share.note(seconds, running);
    if (team < most && !watch.said) {
        std::fprintf(
            stderr,
            "note: other programs keep cores busy: %d of %d threads until they stop; the results stay "
            "the same (a number of threads that was set stays)\n",
            team, most);
        watch.said = true;
    }
    set_team(team);
}

}  // namespace sieve
