#include "framework/measure/process_memory.h"

#include <sys/resource.h>

#include <fstream>
#include <string>

namespace sieve {

// The kernel's high-water mark of this program. What getrusage says begins with that of the program before
// it, which a large shell or test may have been; it stands in where there is no /proc.
int64_t peak_process_bytes() {
    std::ifstream status("/proc/self/status");
    const std::string key = "VmHWM:";
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(key)) return std::stoll(line.substr(key.size())) * 1024;
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

void reset_peak_process_bytes() {
    std::ofstream("/proc/self/clear_refs") << "5";  // proc(5)
}

}  // namespace sieve
