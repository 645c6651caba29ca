#include "framework/io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "framework/core/error.h"
#include "framework/io/file_steps.h"

namespace sieve {
namespace {

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
    bool close() { return file_steps::close(std::exchange(fd_, -1)); }

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

    const std::filesystem::path& path() const { return path_; }
    void take_final_name() {
        if (!file_steps::rename(path_.c_str(), final_path_.c_str())) fail_with_errno("write", final_path_);
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

// Makes the rename itself durable. Some file systems cannot do it and the file is whole either way, so a
// failure here is no error.
void flush_folder_of(const std::filesystem::path& path) {
    const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
    const FileDescriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.get() >= 0) ::fsync(fd.get());
}

}  // namespace

void write_file_atomic(const std::filesystem::path& path, std::string_view bytes) {
    write_file_atomic(path, std::span<const std::string_view>(&bytes, 1));
}

void write_file_atomic(const std::filesystem::path& path, std::span<const std::string_view> pieces) {
    AtomicFile file(path);
    for (const std::string_view piece : pieces) file.write(piece);
    file.commit();
}

struct AtomicFile::State {
    explicit State(const std::filesystem::path& final_path)
        : path(final_path),
          temporary(path),
          fd(file_steps::open(temporary.path().c_str(), O_WRONLY | O_CREAT | O_TRUNC)) {}

    std::filesystem::path path;
    TemporaryFile temporary;
    FileDescriptor fd;
};

AtomicFile::AtomicFile(const std::filesystem::path& path) : state_(std::make_unique<State>(path)) {
    if (state_->fd.get() < 0) fail_with_errno("write", path);
}

AtomicFile::~AtomicFile() = default;

void AtomicFile::write(std::string_view bytes) {
    if (!file_steps::write(state_->fd.get(), bytes)) fail_with_errno("write", state_->path);
}

void AtomicFile::commit() {
    if (!file_steps::fsync(state_->fd.get()) || !state_->fd.close()) fail_with_errno("write", state_->path);
    state_->temporary.take_final_name();
    flush_folder_of(state_->path);
}

const std::filesystem::path& AtomicFile::temporary_path() const {
    return state_->temporary.path();
}

void replace_file(const std::filesystem::path& from, const std::filesystem::path& to) {
    if (!file_steps::rename(from.c_str(), to.c_str())) fail_with_errno("write", to);
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

namespace {

void resize_for(std::string& bytes, size_t size, const std::filesystem::path& path) {
    try {
        bytes.resize(size);
    } catch (const std::exception&) {  // no memory, or more than a string can hold
        throw Error(ErrorKind::out_of_memory,
                    path.string() + ": cannot read: memory cannot hold " + std::to_string(size) + " bytes");
    }
}

bool is_folder(const std::filesystem::path& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
    constexpr size_t longest_stream = size_t{256} << 20;
    const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) fail_with_errno("read", path);
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) fail_with_errno("read", path);
    if (S_ISDIR(info.st_mode)) fail_bad_file(path.string() + ": cannot read: it is a folder");
    std::string bytes;
    // The reported size is a hint only (it is 0 for pipes and /proc): read until the end.
    resize_for(bytes, static_cast<size_t>(info.st_size) + 1, path);
    size_t filled = 0;
    while (true) {
        if (!S_ISREG(info.st_mode) && filled >= longest_stream)
            fail_bad_file(path.string() + ": cannot read: no end after 256 MiB, and it is no regular file");
        if (filled == bytes.size()) resize_for(bytes, 2 * bytes.size(), path);
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
    std::filesystem::path folder;
    for (const std::filesystem::path& part : path) {
        folder /= part;
        if (is_folder(folder) || file_steps::mkdir(folder.c_str())) continue;
        const int code = errno;
        if (code == EEXIST && is_folder(folder)) continue;  // another program was faster
        errno = code == EEXIST ? ENOTDIR : code;
        fail_with_errno("make this folder", path);
    }
    if (::access(path.c_str(), W_OK | X_OK) != 0) fail_with_errno("write into this folder", path);
}

}  // namespace sieve
