#include "framework/io/block_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "framework/core/error.h"

namespace sieve {
namespace {

[[noreturn]] void fail_with_errno(const std::filesystem::path& path) {
    fail_bad_file(path.string() + ": cannot read: " + std::strerror(errno));
}

}  // namespace

BlockReader::BlockReader(const std::filesystem::path& path)
    : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) fail_with_errno(path_);
    struct stat info {};
    if (::fstat(fd_, &info) == 0 && S_ISDIR(info.st_mode)) {
        ::close(fd_);
        fail_bad_file(path_.string() + ": cannot read: it is a folder");
    }
    if (S_ISREG(info.st_mode)) file_bytes_ = info.st_size;
}

BlockReader::~BlockReader() {
    ::close(fd_);
}

std::string_view BlockReader::next() {
    block_.resize(block_bytes);
    size_t filled = 0;
    while (filled < block_.size()) {
        const ssize_t got = ::read(fd_, block_.data() + filled, block_.size() - filled);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail_with_errno(path_);
        if (got == 0) break;
        filled += static_cast<size_t>(got);
    }
    bytes_read_ += static_cast<int64_t>(filled);
    return {block_.data(), filled};
}

std::string read_small_file(const std::filesystem::path& path, size_t most) {
    BlockReader reader(path);
    std::string text;
    for (std::string_view block = reader.next(); !block.empty(); block = reader.next()) {
        text += block;
        if (text.size() > most)
            fail_bad_file(path.string() + ": more than " + std::to_string(most) + " bytes");
    }
    return text;
}

}  // namespace sieve
