// A folder that one process at a time writes into: flock(2) on the file ".lock" in it. The system gives the
// lock back when the process ends, however it ends; a file that was left behind locks nothing.
#pragma once

#include <filesystem>

namespace sieve {

class FolderLock {
  public:
    // The folder exists. Throws Error(failure) with a sentence that names the other process: `results/sparse:
    // in use by process 4711 (./experiments/exp4, since 2026-11-29 10:35:12); wait for its end or use another
    // folder`. Where the file system has no locks, says so on stderr and goes on.
    explicit FolderLock(const std::filesystem::path& folder);
    ~FolderLock();
    FolderLock(FolderLock&& other) noexcept;
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;

  private:
    std::filesystem::path path_;
    int fd_ = -1;
};

}  // namespace sieve
