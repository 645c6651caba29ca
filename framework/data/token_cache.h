// Work done once and kept in a folder: encoded corpora (tokens-KEY.bin) and trained tokenizers
// (tokenizer-KEY.json). The key is a hash of everything that the result depends on, so that a changed source
// has another name. A file that is damaged is made again, with a note. When the folder cannot be written, a
// note says so and the work goes on.
//
// tokens-KEY.bin, little endian: "SIEVETOK", uint64 key, uint64 count, uint64 pieces, int32 tokens[count],
// int64 ends[pieces], uint64 XXH3 of tokens and ends.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/data/data_log.h"
#include "framework/data/text_split.h"
#include "framework/data/tokenizer.h"

namespace sieve {

struct EncodedText {
    std::vector<int32_t> tokens;
    std::vector<int64_t> ends;  // of each piece, in tokens; pieces behind a limit have none
    bool operator==(const EncodedText&) const = default;
};

// Each document's last piece is followed by <|endoftext|>, where the tokenizer has that token. Stops at
// `max_tokens` (0: no limit). `name` names the text in messages.
EncodedText encode_pieces(std::span<const TextPiece> pieces, const Tokenizer& tokenizer, int64_t max_tokens,
                          const std::string& name, const DataLog& log = {});

// An empty `folder` switches the cache off.
EncodedText cached_pieces(const std::filesystem::path& folder, std::span<const TextPiece> pieces,
                          const Tokenizer& tokenizer, int64_t max_tokens, const std::string& name,
                          const DataLog& log);

// The tokenizer of `vocab_size` tokens trained on these texts and no others.
Tokenizer cached_tokenizer(const std::filesystem::path& folder, std::span<const std::string_view> texts,
                           int vocab_size, const std::string& name, const DataLog& log);

}  // namespace sieve
