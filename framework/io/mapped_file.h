// A regular file as memory: what is larger than memory is read page by page, as it is looked at.
//
// A mapping shows the file as it is, not as it was. When it becomes shorter, or the disk fails, looking at what is gone
// would end the program by SIGBUS; here zeros stand there from then on, and check_unchanged() says what happened.
// Whoever reads a mapping calls it before using what was read.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace sieve {

class MappedFile {
  public:
    // A process may have some 65,000 mappings; these are for files.
    static constexpr int64_t most = 16384;
    static int64_t count();

    // Throws Error(bad_file) for what is missing, cannot be read or is no regular file, and beyond `most`.
    explicit MappedFile(const std::filesystem::path& path);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    std::string_view bytes() const { return {data_, size_}; }
    // Gives back the memory of this part of bytes(), and of up to 64 KiB around it that the kernel read along. What is
    // looked at again is read again.
    void release(std::string_view part) const;
    // Throws Error(bad_file) when the file was written to since it was mapped, or could not be read. A file that was
    // removed, or replaced by another one of its name, is still there as it was.
    void check_unchanged() const;
    // Whether something that was looked at was no longer there: a part of that check which costs nothing.
    bool is_lost() const;

  private:
    std::filesystem::path path_;
    struct stat info_ {};
    const char* data_ = nullptr;
    size_t size_ = 0;
    size_t slot_ = 0;  // in the table that the handler of SIGBUS reads
};

}  // namespace sieve
