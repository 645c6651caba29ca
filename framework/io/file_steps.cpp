#include "framework/io/file_steps.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>

#include "framework/io/atomic_file.h"

namespace sieve {
namespace {

std::atomic<int64_t> steps_until_fault{0};
FileFault planned_fault;

// The fault that a test has planned for this step, or null.
const FileFault* fault_at(FileStep step) {
    if (steps_until_fault.load(std::memory_order_relaxed) <= 0) return nullptr;
    if (planned_fault.step != FileStep::any && planned_fault.step != step) return nullptr;
    return steps_until_fault.fetch_sub(1) == 1 ? &planned_fault : nullptr;
}

bool fails(FileStep step) {
    const FileFault* fault = fault_at(step);
    if (fault) errno = fault->error;
    return fault && fault->error != 0;
}

// write(2), of which a torn one takes half of the bytes.
ssize_t write_some(int fd, std::string_view bytes) {
    const FileFault* fault = fault_at(FileStep::write);
    if (!fault) return ::write(fd, bytes.data(), bytes.size());
    ssize_t written = -1;
    if (fault->torn) written = ::write(fd, bytes.data(), (bytes.size() + 1) / 2);
    if (fault->error == 0) return written;
    errno = fault->error;
    return -1;
}

}  // namespace

void fail_file_step_after(int64_t n, const FileFault& fault) {
    steps_until_fault = 0;
    planned_fault = fault;
    steps_until_fault = n;
}

int file_steps::open(const char* path, int flags) {
    int fd = -1;
    do fd = fails(FileStep::open) ? -1 : ::open(path, flags | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    return fd;
}

bool file_steps::write(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t written = write_some(fd, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written == 0) errno = EIO;  // a device that takes nothing and says nothing
        if (written <= 0) return false;
        bytes.remove_prefix(static_cast<size_t>(written));
    }
    return true;
}

bool file_steps::fsync(int fd) {
    int status = 0;
    do status = fails(FileStep::fsync) ? -1 : ::fsync(fd);
    while (status != 0 && errno == EINTR);
    return status == 0;
}

bool file_steps::close(int fd) {
    const bool closed = ::close(fd) == 0;
    return (closed && !fails(FileStep::close)) || errno == EINTR;  // with which Linux has closed it
}

bool file_steps::rename(const char* from, const char* to) {
    return !fails(FileStep::rename) && ::rename(from, to) == 0;
}

bool file_steps::mkdir(const char* path) {
    return !fails(FileStep::mkdir) && ::mkdir(path, 0777) == 0;
}

}  // namespace sieve
