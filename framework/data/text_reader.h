// Private to this room. A file of text, block by block, judged as it comes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "framework/data/data_log.h"
#include "framework/io/block_reader.h"

namespace sieve {

// Watches how much text there is, over all files of a corpus.
class TextBudget {
  public:
    TextBudget();
    // Throws an out-of-memory error that begins with `path` when `bytes` more are too many.
    void take(int64_t bytes, const std::filesystem::path& path);
    // The same for bytes that are still to come.
    void check(int64_t bytes, const std::filesystem::path& path) const;

  private:
    int64_t available_, taken_ = 0;
};

class TextReader {
  public:
    TextReader(const std::filesystem::path& path, TextBudget& budget, const DataLog& log);

    // From the first block on the budget is to hold the whole file, where its size is known.
    void expect_all() { whole_ = true; }
    // The next block; empty at the end. Throws a bad_file error for what is compressed or binary: the first
    // block tells as a rule.
    std::string_view next();

  private:
    void judge(std::string_view block) const;

    std::filesystem::path path_;
    TextBudget& budget_;
    const DataLog& log_;
    BlockReader reader_;
    bool whole_ = false;
};

// "gunzip -k a.gz" for a file that begins as a compressed one does; empty for others.
std::string how_to_unpack(const std::filesystem::path& path, std::string_view first_bytes);

}  // namespace sieve
