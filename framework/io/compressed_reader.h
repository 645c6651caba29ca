// A file that is read block by block (block_reader.h), unpacked when it is compressed by gzip (RFC 1952) or zstd (RFC
// 8878): its first bytes tell, whatever its name. Several members or frames, one after the other, are one text, as those
// programs have it. Memory does not depend on what a file says of itself: a block, and a window that is bounded by the
// file's size.
//
// Errors, all bad_file and each one line: damaged (checksums are compared), ending too early, followed by bytes of
// something else, a zstd window that is out of proportion.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "framework/io/block_reader.h"

namespace sieve {

enum class Compression { none, gzip, zstd };
Compression compression_of(std::string_view first_bytes);

class CompressedReader {
  public:
    static constexpr size_t block_bytes = BlockReader::block_bytes;
    class Decoder;  // one for each kind of compression

    // Throws as BlockReader does.
    explicit CompressedReader(const std::filesystem::path& path);
    ~CompressedReader();
    CompressedReader(const CompressedReader&) = delete;
    CompressedReader& operator=(const CompressedReader&) = delete;

    // The next block of what was packed, full but for the last; empty at the end. Valid until the next call.
    std::string_view next();
    Compression compression() const { return compression_; }
    int64_t bytes_made() const { return bytes_made_; }           // by next(), in all
    int64_t bytes_read() const { return reader_.bytes_read(); }  // of the file
    std::optional<int64_t> file_bytes() const { return reader_.file_bytes(); }

  private:
    BlockReader reader_;
    std::string_view input_;  // what is left of the file's block
    Compression compression_ = Compression::none;
    std::unique_ptr<Decoder> decoder_;
    std::string block_;
    int64_t bytes_made_ = 0;
};

}  // namespace sieve
