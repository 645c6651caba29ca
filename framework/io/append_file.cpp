#include "framework/io/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "framework/core/error.h"

namespace sieve {
namespace {

[[noreturn]] void fail_with_errno(const std::filesystem::path& path) {
    fail_bad_file(path.string() + ": cannot write: " + std::strerror(errno));
}

}  // namespace

AppendFile::AppendFile(const std::filesystem::path& path)
    : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) {
    if (fd_ < 0) fail_with_errno(path_);
}

AppendFile::~AppendFile() {
    ::close(fd_);
}

void AppendFile::append(std::string_view record) {
    while (!record.empty()) {
        const ssize_t written = ::write(fd_, record.data(), record.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) fail_with_errno(path_);
        record.remove_prefix(static_cast<size_t>(written));
    }
}

}  // namespace sieve
