#include "framework/data/dataset.h"

#include <fmt/format.h>

#include <new>

#include "framework/core/error.h"
#include "framework/core/hash.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

// The data folder of the working directory, else the one beside the folder of the running program.
fs::path data_folder() {
    std::error_code code;
    if (fs::exists("data/excerpt", code)) return "data";
    const fs::path program = fs::read_symlink("/proc/self/exe", code);
    const fs::path beside = program.parent_path().parent_path() / "data";
    return fs::exists(beside / "excerpt", code) ? beside : fs::path("data");
}

fs::path default_source(const DataLog& log) {
    const fs::path folder = data_folder();
    std::error_code code;
    if (fs::exists(folder / "corpus" / "complete", code)) return folder / "corpus";
    log((folder / "excerpt").string() + " is used, a small sample; `make corpus` fetches a larger text");
    return folder / "excerpt";
}

std::string describe_source(const Corpus& corpus) {
    const size_t n = corpus.documents.size();
    return fmt::format("{}: {} document{}, {} bytes", corpus.name, n, n == 1 ? "" : "s", corpus.bytes());
}

std::string describe_tokens(const DataConfig& config, const Tokenizer& tokenizer, size_t tokens,
                            int64_t bytes) {
    std::string line = fmt::format("{} tokens, vocabulary {} ({})", tokens, tokenizer.vocab_size(),
                                   config.tokenizer.empty() ? "trained on this text" : config.tokenizer);
    const bool all = config.max_tokens == 0 || tokens < static_cast<size_t>(config.max_tokens);
    if (!all) return line + fmt::format(", cut at max_tokens {}", config.max_tokens);
    return line +
           fmt::format(", {:.2f} bytes a token", static_cast<double>(bytes) / static_cast<double>(tokens));
}

std::string describe_protocol(const DataConfig& config, const Windows& windows) {
    const char* nature = config.protocol == Protocol::heldout
                             ? "no token is shared"
                             : "validation text is also trained on, its loss measures memory";
    return fmt::format("{}: {} train and {} validation windows of {} tokens; {}", name_of(config.protocol),
                       windows.train.size(), windows.validation.size(), windows.length, nature);
}

Tokenizer make_tokenizer(const DataConfig& config, const Corpus& corpus, const DataLog& log) {
    if (!config.tokenizer_json.empty())
        return Tokenizer::from_json(config.tokenizer_json, "the model's tokenizer");
    if (!config.tokenizer.empty()) return Tokenizer::load(config.tokenizer);
    return cached_tokenizer(config.cache_dir, corpus, config.vocab_size, 1.0 - config.val_fraction, log);
}

Corpus find_corpus(const DataConfig& config, const DataLog& log) {
    check_window_settings(config.seq_len, config.val_fraction);
    const fs::path source = config.data.empty() ? default_source(log) : fs::path(config.data);
    return load_corpus(source, config.num_documents, log);
}

}  // namespace

Dataset::Dataset(const DataConfig& config, const DataLog& log)
    : Dataset(config, log, find_corpus(config, log)) {}

Dataset::Dataset(const DataConfig& config, const DataLog& log, const Corpus& corpus)
    : tokenizer_(make_tokenizer(config, corpus, log)),
      tokens_(std::make_shared<const std::vector<int32_t>>(
          cached_tokens(config.cache_dir, corpus, tokenizer_, config.max_tokens, log))),
      batches_(tokens_,
               make_windows(static_cast<int64_t>(tokens_->size()), config.seq_len, config.protocol,
                            config.val_fraction, config.seed, corpus.name),
               config.batch_size, config.seed),
      fingerprint_{.corpus = to_hex(corpus.hash()), .tokenizer = to_hex(tokenizer_.hash())},
      source_(describe_source(corpus)),
      token_line_(describe_tokens(config, tokenizer_, tokens_->size(), corpus.bytes())),
      protocol_(describe_protocol(config, windows())) {}

Dataset load_dataset(const DataConfig& config, const DataLog& log) {
    try {
        return Dataset(config, log);
    } catch (const std::bad_alloc&) {
        throw Error(ErrorKind::out_of_memory,
                    "out of memory while the text was read and encoded; lower the amount of text",
                    {SizeKind::text});
    }
}

}  // namespace sieve
