#include "framework/io/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>

#include "framework/core/error.h"
#include "framework/io/file_steps.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

std::string owner_text() {
    std::error_code code;
    const fs::path program = fs::read_symlink("/proc/self/exe", code);
    char when[32] = "";
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    if (localtime_r(&now, &local)) std::strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &local);
    return "process " + std::to_string(::getpid()) + " (" + program.filename().string() + ", since " + when +
           ")";
}

std::string text_of(int fd) {
    char text[256];
    const ssize_t got = ::pread(fd, text, sizeof text, 0);
    return got > 0 ? std::string(text, static_cast<size_t>(got)) : "another process";
}

// Whether `fd` is the file that has the name now: the process before may have removed the one that we waited
// for.
bool still_named(int fd, const fs::path& path) {
    struct stat ours {
    }, named{};
    return ::fstat(fd, &ours) == 0 && ::stat(path.c_str(), &named) == 0 && ours.st_ino == named.st_ino &&
           ours.st_dev == named.st_dev;
}

int open_lock(const fs::path& path) {
    const int fd = file_steps::open(path.c_str(), O_RDWR | O_CREAT);
    if (fd < 0) fail_bad_file(path.string() + ": cannot write: " + std::strerror(errno));
    return fd;
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder) : path_(folder / ".lock") {
    while (true) {
        fd_ = open_lock(path_);
        if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
            const int code = errno;
            const std::string owner = text_of(fd_);
            if (code != EWOULDBLOCK) {
                std::fprintf(stderr,
                             "%s: cannot be locked (%s): see to it that no second program writes here\n",
                             folder.c_str(), std::strerror(code));
                return;
            }
            ::close(std::exchange(fd_, -1));
            fail(folder.string() + ": in use by " + owner + "; wait for its end or use another folder");
        }
        if (still_named(fd_, path_)) break;
        ::close(std::exchange(fd_, -1));
    }
    const std::string owner = owner_text();
    // Only a sentence depends on what it says.
    if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, owner.data(), owner.size(), 0) < 0) return;
}

FolderLock::~FolderLock() {
    if (fd_ < 0) return;
    ::unlink(path_.c_str());
    ::close(fd_);
}

FolderLock::FolderLock(FolderLock&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

}  // namespace sieve
