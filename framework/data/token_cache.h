// Work done once and kept in a folder: encoded corpora (tokens-KEY.bin) and trained tokenizers
// (tokenizer-KEY.json). The key is a hash of everything that the result depends on, so that a changed source
// has another name. A file that is damaged is made again, with a note. When the folder cannot be written, a
// note says so and the work goes on, in memory.
//
// tokens-KEY.bin, little endian: "SIEVETK2", uint64 key, int32 tokens of the training text and of what is held out,
// int64 ends of the pieces of both (as in EncodedText), uint64 counts of the four, uint64 XXH3 of all of that. It is
// written as the text is encoded, and then read where it lies.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/data/data_log.h"
#include "framework/data/text_split.h"
#include "framework/data/token_store.h"
#include "framework/data/tokenizer.h"

namespace sieve {

// Each document's last piece is followed by <|endoftext|>, where the tokenizer has that token. Stops at `max_tokens`
// (0: no limit). Hands the tokens to `take`, some at a time, and returns where each piece ends, in tokens; pieces behind
// the limit have no end. Reports progress as "encoding NAME".
using TakeTokens = std::function<void(std::span<const int32_t> tokens)>;
std::vector<int64_t> encode_pieces(std::span<const TextPiece> pieces, const Tokenizer& tokenizer,
                                   int64_t max_tokens, const std::string& name, const TakeTokens& take,
                                   const DataLog& log = {});

struct EncodedText {
    std::shared_ptr<const TokenStore> tokens;        // of the training text, then of what is held out
    std::vector<int64_t> train_ends, held_out_ends;  // of each piece, in all these tokens

    int64_t train_tokens() const { return train_ends.empty() ? 0 : train_ends.back(); }
};

struct EncodingJob {
    const TextSplit& split;
    const Tokenizer& tokenizer;
    int64_t max_train_tokens = 0, max_held_out_tokens = 0;  // 0: no limit
    std::string name;                                       // of the text, in messages
    // Called when the text was read, before the result is kept: throws when the text has changed meanwhile.
    std::function<void()> check_text = [] {};
};

// An empty `folder` switches the cache off.
EncodedText cached_tokens(const std::filesystem::path& folder, const EncodingJob& job, const DataLog& log);

struct TrainingJob {
    std::span<const std::string_view> texts;
    uint64_t texts_hash;  // names them
    int vocab_size;
    std::string name;                          // of the text, in messages
    std::function<void()> check_text = [] {};  // as above
};

// The tokenizer of `vocab_size` tokens trained on these texts and no others.
Tokenizer cached_tokenizer(const std::filesystem::path& folder, const TrainingJob& job, const DataLog& log);

}  // namespace sieve
