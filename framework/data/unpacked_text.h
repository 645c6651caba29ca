// Private to this room. The texts of files that cannot be read where they lie: compressed ones, JSON lines, pipes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "framework/data/corpus.h"
#include "framework/data/text_reader.h"

namespace sieve {

class UnpackedTexts {
  public:
    UnpackedTexts(const CorpusOptions& options, TextStore& store, const DataLog& log)
        : options_(options), store_(store), log_(log), memory_left_(options.memory_bytes) {}

    enum class Kind { text, json_lines };
    // All of a file's text, or the first `documents` (0: all) of JSON lines, with <|endoftext|> between documents.
    std::string_view text_of(const std::filesystem::path& path, Kind kind, int64_t documents);

  private:
    struct Source;  // one file, while it is read
    std::optional<std::string_view> kept_text(Source& source);
    std::string_view unpack(Source& source, bool may_use_disk);
    void note_disk(const Source& source);

    const CorpusOptions& options_;
    TextStore& store_;
    const DataLog& log_;
    TextBudget budget_;
    int64_t memory_left_;
    bool disk_was_noted_ = false;
};

}  // namespace sieve
