#include "framework/io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "framework/core/error.h"

namespace sieve {
namespace {

std::atomic<int64_t> steps_until_failure{0};

// True when the test hook wants this step to fail.
bool step_fails() {
    if (steps_until_failure.load() <= 0 || steps_until_failure.fetch_sub(1) != 1) return false;
    errno = EIO;
    return true;
}

[[noreturn]] void fail_with_errno(const std::string& action, const std::filesystem::path& path) {
    const int code = errno;
    fail_bad_file(path.string() + ": cannot " + action + ": " + std::strerror(code));
}

class FileDescriptor {
  public:
    explicit FileDescriptor(int fd) : fd_(fd) {}
    ~FileDescriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;
    int get() const { return fd_; }
    bool close() {
        const int fd = fd_;
        fd_ = -1;
        return ::close(fd) == 0;
    }

  private:
    int fd_;
};

// A file that is removed again unless it was given its final name.
class TemporaryFile {
  public:
    explicit TemporaryFile(const std::filesystem::path& final_path)
        : final_path_(final_path), path_(name_beside(final_path)) {}
    ~TemporaryFile() {
        if (!renamed_) ::unlink(path_.c_str());
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;

    const char* name() const { return path_.c_str(); }
    void take_final_name() {
        if (step_fails() || ::rename(path_.c_str(), final_path_.c_str()) != 0)
            fail_with_errno("write", final_path_);
        renamed_ = true;
    }

  private:
    static std::filesystem::path name_beside(std::filesystem::path path) {
        static std::atomic<int> counter{0};
        path += ".tmp" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
        return path;
    }

    std::filesystem::path final_path_, path_;
    bool renamed_ = false;
};

// Whether TemporaryFile gave this name: ".tmp", a process, "-", a number at its end.
bool is_temporary(const std::string& name) {
    const size_t mark = name.rfind(".tmp");
    if (mark == std::string::npos || mark == 0) return false;
    const std::string rest = name.substr(mark + 4);
    const size_t dash = rest.find('-');
    return dash != std::string::npos && dash > 0 && dash + 1 < rest.size() &&
           rest.find_first_not_of("0123456789-") == std::string::npos;
}

bool write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t written = step_fails() ? -1 : ::write(fd, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        bytes.remove_prefix(static_cast<size_t>(written));
    }
    return true;
}

// Makes the rename itself durable. Some file systems cannot do it and the file is whole either way, so a
// failure here is no error.
void flush_folder_of(const std::filesystem::path& path) {
    const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
    const FileDescriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.get() >= 0) ::fsync(fd.get());
}

}  // namespace

void fail_file_step_after(int64_t n) {
    steps_until_failure = n;
}

void write_file_atomic(const std::filesystem::path& path, std::string_view bytes) {
    write_file_atomic(path, std::span<const std::string_view>(&bytes, 1));
}

void write_file_atomic(const std::filesystem::path& path, std::span<const std::string_view> pieces) {
    TemporaryFile temporary(path);
    FileDescriptor fd(
        step_fails() ? -1 : ::open(temporary.name(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (fd.get() < 0) fail_with_errno("write", path);
    for (const std::string_view piece : pieces)
        if (!write_all(fd.get(), piece)) fail_with_errno("write", path);
    if (step_fails() || ::fsync(fd.get()) != 0) fail_with_errno("write", path);
    if (step_fails() || !fd.close()) fail_with_errno("write", path);
    temporary.take_final_name();
    flush_folder_of(path);
}

void replace_file(const std::filesystem::path& from, const std::filesystem::path& to) {
    if (step_fails() || ::rename(from.c_str(), to.c_str()) != 0) fail_with_errno("write", to);
    flush_folder_of(to);
}

void remove_file(const std::filesystem::path& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail_with_errno("remove", path);
}

void remove_folder(const std::filesystem::path& path) {
    std::error_code code;
    std::filesystem::remove_all(path, code);
    if (code) fail_bad_file(path.string() + ": cannot remove: " + code.message());
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
    std::error_code code;
    std::vector<std::string> names;
    for (std::filesystem::directory_iterator entry(folder, code), end; !code && entry != end;
         entry.increment(code))
        names.push_back(entry->path().filename().string());
    if (code && code != std::errc::no_such_file_or_directory)
        fail_bad_file(folder.string() + ": cannot list this folder: " + code.message());
    std::sort(names.begin(), names.end());
    return names;
}

void remove_temporary_files(const std::filesystem::path& folder, std::chrono::seconds untouched) {
    const auto last = std::filesystem::file_time_type::clock::now() - untouched;
    for (const std::string& name : names_in(folder)) {
        std::error_code code;  // another program may have removed it
        if (is_temporary(name) && std::filesystem::last_write_time(folder / name, code) <= last && !code)
            remove_file(folder / name);
    }
}

std::string read_file(const std::filesystem::path& path) {
    const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) fail_with_errno("read", path);
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) fail_with_errno("read", path);
    if (S_ISDIR(info.st_mode)) fail_bad_file(path.string() + ": cannot read: it is a folder");
    std::string bytes;
    // The reported size is a hint only (it is 0 for pipes and /proc): read until the end.
    bytes.resize(static_cast<size_t>(info.st_size) + 1);
    size_t filled = 0;
    while (true) {
        if (filled == bytes.size()) bytes.resize(2 * bytes.size());
        const ssize_t got = ::read(fd.get(), bytes.data() + filled, bytes.size() - filled);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail_with_errno("read", path);
        if (got == 0) break;
        filled += static_cast<size_t>(got);
    }
    bytes.resize(filled);
    return bytes;
}

void make_folder(const std::filesystem::path& path) {
    std::error_code code;
    std::filesystem::create_directories(path, code);
    if (code) fail_bad_file(path.string() + ": cannot make this folder: " + code.message());
    if (!std::filesystem::is_directory(path, code))
        fail_bad_file(path.string() + ": cannot make this folder: a file of this name is in the way");
    if (::access(path.c_str(), W_OK | X_OK) != 0) fail_with_errno("write into this folder", path);
}

}  // namespace sieve
