// A file that is read block by block: for what may be larger than memory, or have no end (a pipe, a device).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace sieve {

class BlockReader {
  public:
    static constexpr size_t block_bytes = 1 << 20;

    // Throws Error(bad_file) for what is missing, cannot be read, or is a folder.
    explicit BlockReader(const std::filesystem::path& path);
    ~BlockReader();
    BlockReader(const BlockReader&) = delete;
    BlockReader& operator=(const BlockReader&) = delete;

    // The next block, full but for the last; empty at the end. Valid until the next call.
    std::string_view next();
    int64_t bytes_read() const { return bytes_read_; }
    // Of a regular file; it may change while it is read.
    std::optional<int64_t> file_bytes() const { return file_bytes_; }

  private:
    std::filesystem::path path_;
    int fd_;
    std::string block_;
    int64_t bytes_read_ = 0;
    std::optional<int64_t> file_bytes_;
};

// The whole of a file that is to have at most `most` bytes: a larger one is refused, whatever its size.
std::string read_small_file(const std::filesystem::path& path, size_t most);

}  // namespace sieve
