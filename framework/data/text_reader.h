// Private to this room. A file of text that is read from its beginning to its end, unpacked, block by block, judged as
// it comes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "framework/data/data_log.h"
#include "framework/io/compressed_reader.h"

namespace sieve {

// Watches how much text lies in memory, over all files of a corpus.
class TextBudget {
  public:
    TextBudget();
    // Throws an out-of-memory error that begins with `path` when `bytes` more are too many.
    void take(int64_t bytes, const std::filesystem::path& path);
    // The same for bytes that are not kept.
    void check(int64_t bytes, const std::filesystem::path& path) const;

  private:
    int64_t available_, taken_ = 0;
};

class TextReader {
  public:
    TextReader(const std::filesystem::path& path, const DataLog& log);

    // The next block; empty at the end. Throws a bad_file error for what is damaged or binary: the first block tells as
    // a rule.
    std::string_view next();
    std::optional<int64_t> file_bytes() const { return reader_.file_bytes(); }

  private:
    std::filesystem::path path_;
    const DataLog& log_;
    CompressedReader reader_;
};

// Throws a bad_file error unless a text may begin so.
void judge_beginning(const std::filesystem::path& path, std::string_view first_block);
// Throws a bad_file error when there is a NUL in the part of the text that begins at `offset`.
void refuse_nul(const std::filesystem::path& path, std::string_view part, int64_t offset);

// "gunzip -k a.gz" for a file that begins as a compressed one does; empty for others.
std::string how_to_unpack(const std::filesystem::path& path, std::string_view first_bytes);

}  // namespace sieve
