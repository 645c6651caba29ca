// Whole-file reading and writing. A file appears under its name complete or not at all: the bytes go to a
// temporary file in the same folder, are flushed to the disk, and take the name by rename(2). On any failure
// the old file stays as it was, the temporary one is removed, and Error(bad_file) names the path and the
// system's reason.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sieve {

void write_file_atomic(const std::filesystem::path& path, std::string_view bytes);
// The pieces one after the other: large payloads need not be copied into one string first.
void write_file_atomic(const std::filesystem::path& path, std::span<const std::string_view> pieces);

// The same for what is made piece by piece and is not in memory as a whole.
class AtomicFile {
  public:
    explicit AtomicFile(const std::filesystem::path& path);
    ~AtomicFile();  // what was not committed is removed
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    void write(std::string_view bytes);
    void commit();  // once, after which nothing is written
    // What was written so far has this name until it is committed.
    const std::filesystem::path& temporary_path() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

// Throws Error(out_of_memory) for what memory cannot hold. What has no end of its own, such as a pipe, is
// read up to 256 MiB.
std::string read_file(const std::filesystem::path& path);

// Makes the folder and its parents; throws unless files can be created in it.
void make_folder(const std::filesystem::path& path);

// Gives a file or folder the name of another one on the same disk, which it replaces; durable when it
// returns.
void replace_file(const std::filesystem::path& from, const std::filesystem::path& to);
// What is not there is no error. A folder goes with all that is in it.
void remove_file(const std::filesystem::path& path);
void remove_folder(const std::filesystem::path& path);
// The names of what is in a folder, in order; none when there is no such folder.
std::vector<std::string> names_in(const std::filesystem::path& folder);
// Removes what a program that was killed while it wrote left in the folder: files that were not written to
// for that long, since other programs may be writing there.
void remove_temporary_files(const std::filesystem::path& folder,
                            std::chrono::seconds untouched = std::chrono::seconds(0));

// Test hook: the n-th step of writing files or making folders from now fails (1: the next one; 0: none).
enum class FileStep { any, open, write, fsync, close, rename, mkdir };
struct FileFault {
    FileStep step = FileStep::any;  // what fails; other steps are not counted
    int error = EIO;
    // A write that fails has taken half of the bytes; with error 0 it does not fail, but takes no more.
    bool torn = false;
};
void fail_file_step_after(int64_t n, const FileFault& fault = {});

}  // namespace sieve
