// Work done once and kept in a folder: encoded corpora (tokens-KEY.bin) and trained tokenizers
// (tokenizer-KEY.json). The key is a hash of everything that the result depends on, so that a changed source
// has another name. A file that is damaged is made again, with a note. When the folder cannot be written, a
// note says so and the work goes on.
//
// tokens-KEY.bin, little endian: "SIEVETOK", uint64 key, uint64 count, int32 tokens[count], uint64 XXH3 of
// the tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "framework/data/corpus.h"
#include "framework/data/data_log.h"
#include "framework/data/tokenizer.h"

namespace sieve {

// Every document followed by <|endoftext|>, where the tokenizer has that token. Stops at `max_tokens` (0: no
// limit).
std::vector<int32_t> encode_corpus(const Corpus& corpus, const Tokenizer& tokenizer, int64_t max_tokens,
                                   const DataLog& log = {});

// An empty `folder` switches the cache off.
std::vector<int32_t> cached_tokens(const std::filesystem::path& folder, const Corpus& corpus,
                                   const Tokenizer& tokenizer, int64_t max_tokens, const DataLog& log);

// The tokenizer of `vocab_size` tokens trained on the first `train_fraction` of the corpus' bytes.
Tokenizer cached_tokenizer(const std::filesystem::path& folder, const Corpus& corpus, int vocab_size,
                           double train_fraction, const DataLog& log);

}  // namespace sieve
