// Stored (uncompressed) zip archives, as .pt and .npz use them. Real CRC-32s are written, and checked on
// reading. Format: PKWARE APPNOTE 6.3. Reading knows zip64 records; writing refuses what would need them (4
// GiB, 65535 members).
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace sieve {

// Collects members and writes them in one go. Payloads are referred to, not copied: they must live until
// write().
class ZipWriter {
  public:
    // Every payload starts at a multiple of 64 bytes, by means of an extra field in its local header.
    explicit ZipWriter(std::filesystem::path path);
    void add(std::string_view name, std::string_view payload);
    // Keeps the payload itself.
    void add_owned(std::string_view name, std::string payload);
    void write();  // atomically

  private:
    std::filesystem::path path_;
    uint64_t offset_ = 0;
    uint32_t members_ = 0;
    std::deque<std::string> owned_;  // a deque: growing it does not move what pieces_ points into
    std::vector<std::string_view> pieces_;
    std::string directory_;
};

struct ZipMember {
    std::string_view name, payload;
};

// The members of the archive in `bytes`, in the order of its directory; they point into `bytes`. No two share
// a byte, and each payload has its CRC-32. What ZipWriter writes around payloads is compared too, so that any
// bit flipped in an archive of ours is found. Throws Error(bad_file) with a sentence that begins with `path`:
// for bytes that are no zip archive "<path>: not a <format> (truncated or another format)"; for a compressed,
// encrypted, repeated or damaged member one that names it.
std::vector<ZipMember> read_zip(std::string_view bytes, const std::string& path, const std::string& format);

}  // namespace sieve
