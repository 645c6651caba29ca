#include "framework/io/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "framework/core/error.h"
#include "framework/io/file_steps.h"

namespace sieve {
namespace {

[[noreturn]] void fail_with_errno(const std::filesystem::path& path) {
    fail_bad_file(path.string() + ": cannot write: " + std::strerror(errno));
}

}  // namespace

AppendFile::AppendFile(const std::filesystem::path& path)
    : path_(path), fd_(file_steps::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT)) {
    if (fd_ < 0) fail_with_errno(path_);
}

AppendFile::~AppendFile() {
    ::close(fd_);
}

void AppendFile::append(std::string_view record) {
    const off_t end = ::lseek(fd_, 0, SEEK_END);
    if (file_steps::write(fd_, record)) return;
    const int code = errno;
    // A part that was written would stand before the next record.
    [[maybe_unused]] const bool removed = end >= 0 && ::ftruncate(fd_, end) == 0;
    errno = code;
    fail_with_errno(path_);
}

void AppendFile::sync() {
    if (!file_steps::fsync(fd_)) fail_with_errno(path_);
}

}  // namespace sieve
