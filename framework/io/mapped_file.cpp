#include "framework/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <utility>

#include "framework/core/error.h"

namespace sieve {
namespace {

[[noreturn]] void fail_with_errno(const std::filesystem::path& path) {
    fail_bad_file(path.string() + ": cannot read: " + std::strerror(errno));
}

// Signal handlers belong to the whole process, and may use nothing but what cannot be in the middle of a change: hence
// a table of fixed size, of atomics.
struct Slot {
    std::atomic<uintptr_t> begin{0}, end{0};  // end 0: free, or not ready
    std::atomic<bool> lost{false};
};
std::array<Slot, MappedFile::most> slots;
std::atomic<int64_t> mapped_files{0};
struct sigaction handler_before {};

// Puts zeros from the page at which the signal came to the end of the mapping. A signal that came from elsewhere comes
// again, to the handler that was there before.
void on_bus_error(int, siginfo_t* info, void*) {
    const int saved = errno;
    const auto at = reinterpret_cast<uintptr_t>(info->si_addr);
    for (Slot& slot : slots) {
        const uintptr_t end = slot.end;
        if (at < slot.begin || at >= end) continue;
        slot.lost = true;
        const uintptr_t page = at - at % 4096;
        auto* from =
            reinterpret_cast<void*>(page);  // NOLINT(performance-no-int-to-ptr): the signal's address
        const void* zeros =
            ::mmap(from, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        errno = saved;
        if (zeros != MAP_FAILED) return;
    }
    ::sigaction(SIGBUS, &handler_before, nullptr);
}

void install_handler() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action {};
        action.sa_sigaction = on_bus_error;
        action.sa_flags = SA_SIGINFO;
        ::sigaction(SIGBUS, &action, &handler_before);
    });
}

size_t take_slot(const char* data, size_t size, const std::filesystem::path& path) {
    const auto begin = reinterpret_cast<uintptr_t>(data);
    for (size_t i = 0; i < slots.size(); ++i) {
        uintptr_t free = 0;
        if (!slots[i].begin.compare_exchange_strong(free, begin)) continue;
        slots[i].lost = false;
        slots[i].end = begin + size;
        return i;
    }
    fail_bad_file(path.string() + ": more than " + std::to_string(MappedFile::most) + " files are mapped");
}

}  // namespace

int64_t MappedFile::count() {
    return mapped_files;
}

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail_with_errno(path_);
    void* data = nullptr;
    if (::fstat(fd, &info_) == 0 && S_ISREG(info_.st_mode) && info_.st_size > 0)
        data = ::mmap(nullptr, static_cast<size_t>(info_.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    const int code = errno;
    ::close(fd);
    if (!S_ISREG(info_.st_mode)) fail_bad_file(path_.string() + ": cannot read: it is no regular file");
    if (!data) return;  // of an empty file there is no mapping
    errno = code;
    if (data == MAP_FAILED) fail_with_errno(path_);
    data_ = static_cast<const char*>(data);
    size_ = static_cast<size_t>(info_.st_size);
    install_handler();
    try {
        slot_ = take_slot(data_, size_, path_);
    } catch (...) {
        ::munmap(data, size_);
        throw;
    }
    ++mapped_files;
}

MappedFile::~MappedFile() {
    if (!data_) return;
    slots[slot_].end = 0;
    slots[slot_].begin = 0;
    --mapped_files;
    ::munmap(const_cast<char*>(data_), size_);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
}

void MappedFile::release(std::string_view part) const {
    constexpr size_t read_along = 1 << 16;
    if (part.empty()) return;
    const auto offset = static_cast<size_t>(part.data() - data_);
    const size_t begin = offset - offset % read_along;
    const size_t end = std::min(size_, (offset + part.size() + read_along - 1) / read_along * read_along);
    ::madvise(const_cast<char*>(data_) + begin, end - begin, MADV_DONTNEED);  // NOLINT
}

bool MappedFile::is_lost() const {
    return data_ && slots[slot_].lost;
}

void MappedFile::check_unchanged() const {
    struct stat now {};
    const bool same =
        ::stat(path_.c_str(), &now) == 0 && now.st_dev == info_.st_dev && now.st_ino == info_.st_ino;
    const auto time_of = [](const struct stat& info) {
        return std::pair(info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
    };
    const bool changed = same && (now.st_size != info_.st_size || time_of(now) != time_of(info_));
    if (changed || is_lost())
        fail_bad_file(path_.string() +
                      (changed ? ": changed while it was read; start again when nothing writes to it"
                               : ": became shorter while it was read, or its disk failed"));
}

}  // namespace sieve
