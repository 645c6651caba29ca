// The one call an experiment makes: text, tokenizer, tokens and batches from a few settings.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "framework/data/batches.h"
#include "framework/data/recall_task.h"
#include "framework/data/text_split.h"
#include "framework/data/token_cache.h"
#include "framework/data/tokenizer.h"
#include "framework/data/windows.h"

namespace sieve {

struct DataConfig {
    Task task = Task::text;
    int64_t recall_pairs = 8;  // of the task recall
    // A text file or a folder; empty: data/corpus, or data/excerpt when the corpus was not fetched.
    std::string data;
    std::string text_key = "text";  // of JSON lines
    // A tokenizer.json; empty: one of vocab_size tokens is trained on the text (fewer, when the text is
    // short).
    std::string tokenizer;
    std::string tokenizer_json;  // the content of such a file, in its place: a trained model's own
    int vocab_size = 4096;
    int64_t max_tokens = 0;     // 0: all
    int64_t num_documents = 0;  // 0: all
    Protocol protocol = Protocol::heldout;
    HeldOut held_out = HeldOut::blocks;  // of heldout
    double val_fraction = 0.1;
    std::string cache_dir = "data/cache";  // empty: no cache
    uint64_t seed = 42;
    int64_t seq_len = 128;
    int64_t batch_size = 16;
    bool operator==(const DataConfig&) const = default;
};

// What a model was trained on, by content: two runs with equal ones saw the same text cut into the same
// tokens.
struct DataFingerprint {
    std::string corpus, tokenizer;  // XXH3, 16 hexadecimal digits
    std::string held_out = {};      // of the text that is held out in blocks; empty where it is not
    bool operator==(const DataFingerprint&) const = default;
};

class Dataset {
  public:
    Dataset(const DataConfig& config, const DataLog& log);

    const Tokenizer& tokenizer() const { return tokenizer_; }
    // The training text and then what is held out in blocks; otherwise in the order of the text.
    std::span<const int32_t> tokens() const { return tokens_->tokens(); }
    const Windows& windows() const { return batches_.windows(); }

    // batches.h: functions of the step alone; one Dataset serves one thread.
    Batch batch(int64_t step) const { return batches_.batch(step); }
    int64_t epoch_of(int64_t step) const { return batches_.epoch_of(step); }
    double steps_per_epoch() const { return batches_.steps_per_epoch(); }
    int64_t validation_batches() const { return batches_.validation_batches(); }
    Batch validation(int64_t index) const { return batches_.validation(index); }
    // Of each window of that batch its place in sources(); empty when held_out is not blocks.
    std::span<const int64_t> validation_sources(int64_t index) const;
    // What the text consists of, and how much of each part is held out in blocks.
    const std::vector<SourceShare>& sources() const { return sources_; }

    // The places in a validation window, given by its tokens, of which the next token is a right answer that counts;
    // none in a text.
    std::vector<int64_t> questions(std::span<const int32_t> window) const;

    const DataFingerprint& fingerprint() const { return fingerprint_; }
    // "data/excerpt: 1 document, 280123 bytes"
    const std::string& source() const { return source_; }
    // "81234 tokens, vocabulary 4096 (trained on this text), 3.45 bytes a token"
    const std::string& token_line() const { return token_line_; }
    // "heldout: 560 train and 62 validation windows of 128 tokens; no token is shared; held out are 28 blocks, ..."
    const std::string& protocol() const { return protocol_; }
    // All three.
    std::string description() const { return source_ + "; " + token_line_ + "; " + protocol_; }

  private:
    struct Parts;
    Dataset(const DataConfig& config, Parts parts);
    static Parts load(const DataConfig& config, const DataLog& log);

    Task task_;
    Tokenizer tokenizer_;
    std::shared_ptr<const TokenStore> tokens_;
    BatchSource batches_;
    std::vector<SourceShare> sources_;
    DataFingerprint fingerprint_;
    std::string source_, token_line_, protocol_;
};

// `log` receives notes for stderr, a line each: that the excerpt is used, that a cache file was made again.
// With held_out blocks the tokenizer is trained on the training text alone, and of max_tokens a share of
// val_fraction is validation. Otherwise it is trained on the first 1 - val_fraction of the text: with the tail held
// out and without max_tokens that is the training text, up to the small difference between a share of the bytes
// and of the tokens.
Dataset load_dataset(const DataConfig& config, const DataLog& log = {});

}  // namespace sieve
