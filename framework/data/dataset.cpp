#include "framework/data/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
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
                            int64_t bytes, bool all) {
    std::string line = fmt::format("{} tokens, vocabulary {} ({})", tokens, tokenizer.vocab_size(),
                                   config.tokenizer.empty() ? "trained on this text" : config.tokenizer);
    if (!all) return line + fmt::format(", cut at max_tokens {}", config.max_tokens);
    return line +
           fmt::format(", {:.2f} bytes a token", static_cast<double>(bytes) / static_cast<double>(tokens));
}

std::string describe_protocol(const DataConfig& config, const Windows& windows, const TextSplit& split) {
    std::string nature = config.protocol == Protocol::heldout
                             ? "no token is shared"
                             : "validation text is also trained on, its loss measures memory";
    if (!split.sources.empty()) nature += "; held out: " + describe_held_out(split);
    return fmt::format("{}: {} train and {} validation windows of {} tokens; {}", name_of(config.protocol),
                       windows.train.size(), windows.validation.size(), windows.length, nature);
}

// A sequence of the recall task is a window: it must not be cut.
bool in_blocks(const DataConfig& config) {
    return config.task == Task::recall ||
           (config.protocol == Protocol::heldout && config.held_out == HeldOut::blocks);
}

// The text up to `fraction` of its bytes: all of the first pieces and a part of one more.
std::vector<std::string_view> leading_text(std::span<const TextPiece> pieces, double fraction) {
    int64_t total = 0;
    for (const TextPiece& piece : pieces) total += std::ssize(piece.text);
    auto left = static_cast<size_t>(static_cast<double>(total) * fraction);
    std::vector<std::string_view> texts;
    for (const TextPiece& piece : pieces) {
        const size_t take = std::min(left, piece.text.size());
        if (take > 0) texts.push_back(piece.text.substr(0, take));
        left -= take;
    }
    return texts;
}

std::vector<std::string_view> all_text(const TextSplit& split) {
    std::vector<std::string_view> texts;
    for (const auto* side : {&split.train, &split.validation})
        for (const TextPiece& piece : *side) texts.push_back(piece.text);
    return texts;
}

// Reads nothing of what is held out.
Tokenizer make_tokenizer(const DataConfig& config, const Corpus& corpus, const TextSplit& split,
                         const DataLog& log) {
    if (!config.tokenizer_json.empty())
        return Tokenizer::from_json(config.tokenizer_json, "the model's tokenizer");
    if (!config.tokenizer.empty()) {
        Tokenizer loaded = Tokenizer::load(config.tokenizer);
        for (const std::string& note : loaded.notes()) log(note);
        return loaded;
    }
    if (config.task == Task::recall) return Tokenizer::train("", 257);  // bytes
    const double share = in_blocks(config) ? 1.0 : 1.0 - config.val_fraction;
    std::vector<std::string_view> texts = leading_text(split.train, share);
    // Words are counted in any order: in that of the files the pages of short documents are read once.
    std::sort(texts.begin(), texts.end(),
              [](std::string_view a, std::string_view b) { return std::less<>()(a.data(), b.data()); });
    int64_t bytes = 0;
    for (const std::string_view text : texts) bytes += std::ssize(text);
    const uint64_t hash = ContentHash().add(static_cast<int64_t>(split.hash)).add(bytes).value();
    return cached_tokenizer(config.cache_dir,
                            {.texts = texts,
                             .texts_hash = hash,
                             .vocab_size = config.vocab_size,
                             .name = corpus.name,
                             .check_text = [&] { corpus.store->check_unchanged(); }},
                            releasing(*corpus.store, texts, log));
}

// Pieces that follow each other in the text, or of which one document ends and another begins, are one run.
// `ends` are those of the first pieces, `begin` is where these tokens begin.
std::vector<TokenRun> runs_of(std::span<const TextPiece> pieces, std::span<const int64_t> ends,
                              int64_t begin) {
    std::vector<TokenRun> runs;
    for (size_t i = 0; i < ends.size(); ++i) {
        const TextPiece& piece = pieces[i];
        const bool goes_on = i > 0 && pieces[i - 1].source == piece.source && pieces[i - 1].ends_document &&
                             piece.begins_document;
        if (!goes_on)
            runs.push_back(
                {.begin = runs.empty() ? begin : runs.back().end, .end = 0, .source = piece.source});
        runs.back().end = ends[i];
    }
    return runs;
}

std::string hash_of(std::span<const TextPiece> pieces, const TextStore& store) {
    ContentHash hash;
    TextRelease release(store);
    for (const TextPiece& piece : pieces) {
        hash.add(piece.text);
        release.passed(piece.text);
    }
    return to_hex(hash.value());
}

// Of max_tokens validation gets its share, a window at least; what is not in blocks is cut into windows later.
EncodedText encode(const DataConfig& config, const Corpus& corpus, const TextSplit& split,
                   const Tokenizer& tokenizer, const DataLog& log) {
    const int64_t most = config.max_tokens;
    EncodingJob job{.split = split,
                    .tokenizer = tokenizer,
                    .max_train_tokens = most,
                    .name = corpus.name,
                    .check_text = [&] { corpus.store->check_unchanged(); }};
    if (most > 0 && in_blocks(config)) {
        const auto share = static_cast<int64_t>(static_cast<double>(most) * config.val_fraction);
        job.max_held_out_tokens = std::clamp<int64_t>(share, std::min(config.seq_len + 1, most), most);
        job.max_train_tokens = std::max<int64_t>(1, most - job.max_held_out_tokens);
    }
    const std::vector<std::string_view> texts = all_text(split);
    return cached_tokens(config.cache_dir, job, releasing(*corpus.store, texts, log));
}

Windows windows_of(const DataConfig& config, const TextSplit& split, const EncodedText& text,
                   const std::string& name) {
    if (!in_blocks(config))
        return make_windows(std::ssize(text.tokens->tokens()), config.seq_len, config.protocol,
                            config.val_fraction, config.seed, name);
    return windows_of_runs(runs_of(split.train, text.train_ends, 0),
                           runs_of(split.validation, text.held_out_ends, text.train_tokens()), config.seq_len,
                           name);
}

void refuse_with_recall(const DataConfig& config) {
    const auto refuse = [](const char* key, const std::string& value) {
        fail_usage(fmt::format("{}: {} with task recall, which makes its own text; leave one of them out",
                               key, value));
    };
    if (!config.data.empty()) refuse("data", config.data);
    if (!config.tokenizer.empty()) refuse("tokenizer", config.tokenizer);
    if (config.protocol != Protocol::heldout) refuse("protocol", name_of(config.protocol));
}

// As many sequences as the settings ask for, each with <|endoftext|> behind it.
Corpus make_recall_corpus(const DataConfig& config) {
    constexpr int64_t usual_tokens = 1 << 22, least = 20;
    const int64_t tokens = config.max_tokens > 0 ? config.max_tokens : usual_tokens;
    const int64_t count = config.num_documents > 0 ? config.num_documents : tokens / (config.seq_len + 1);
    return recall_corpus(
        {.seq_len = config.seq_len, .pairs = config.recall_pairs, .sequences = std::max(least, count)});
}

Corpus find_corpus(const DataConfig& config, const DataLog& log) {
    check_window_settings(config.seq_len, config.val_fraction);
    if (config.task == Task::recall) {
        refuse_with_recall(config);
        return make_recall_corpus(config);
    }
    const fs::path source = config.data.empty() ? default_source(log) : fs::path(config.data);
    return load_corpus(
        source,
        {.num_documents = config.num_documents, .text_key = config.text_key, .cache_dir = config.cache_dir},
        log);
}

}  // namespace

struct Dataset::Parts {
    Tokenizer tokenizer;
    std::shared_ptr<const TokenStore> tokens;
    Windows windows;
    std::vector<SourceShare> sources;
    DataFingerprint fingerprint;
    std::string source, token_line, protocol;
};

Dataset::Parts Dataset::load(const DataConfig& config, const DataLog& log) {
    const Corpus corpus = find_corpus(config, log);
    const bool blocks = in_blocks(config);
    const TextSplit split =
        blocks ? hold_out_blocks(corpus, config.val_fraction, config.seq_len) : whole_text(corpus);
    Tokenizer tokenizer = make_tokenizer(config, corpus, split, log);
    const DataFingerprint fingerprint{.corpus = to_hex(corpus.hash),
                                      .tokenizer = to_hex(tokenizer.hash()),
                                      .held_out = blocks ? hash_of(split.validation, *corpus.store) : ""};
    const EncodedText text = encode(config, corpus, split, tokenizer, log);
    Windows windows = windows_of(config, split, text, corpus.name);
    corpus.store->check_unchanged();  // also when everything but the hashes came from the cache
    const int64_t count = std::ssize(text.tokens->tokens());
    const bool all = config.max_tokens == 0 || count < config.max_tokens;
    std::string token_line =
        describe_tokens(config, tokenizer, static_cast<size_t>(count), corpus.bytes(), all);
    std::string protocol = describe_protocol(config, windows, split);
    return {.tokenizer = std::move(tokenizer),
            .tokens = text.tokens,
            .windows = std::move(windows),
            .sources = split.sources,
            .fingerprint = fingerprint,
            .source = describe_source(corpus),
            .token_line = std::move(token_line),
            .protocol = std::move(protocol)};
}

Dataset::Dataset(const DataConfig& config, const DataLog& log) : Dataset(config, load(config, log)) {}

Dataset::Dataset(const DataConfig& config, Parts parts)
    : task_(config.task),
      tokenizer_(std::move(parts.tokenizer)),
      tokens_(std::move(parts.tokens)),
      batches_(tokens_, std::move(parts.windows), config.batch_size, config.seed),
      sources_(std::move(parts.sources)),
      fingerprint_(std::move(parts.fingerprint)),
      source_(std::move(parts.source)),
      token_line_(std::move(parts.token_line)),
      protocol_(std::move(parts.protocol)) {}

std::vector<int64_t> Dataset::questions(std::span<const int32_t> window) const {
    if (task_ == Task::text) return {};
    return recall_questions(tokenizer_.decode(window), windows().length);
}

std::span<const int64_t> Dataset::validation_sources(int64_t index) const {
    const std::span<const int64_t> all = windows().sources;
    if (all.empty()) return {};
    const auto first = static_cast<size_t>(index * batches_.batch_size());
    return all.subspan(first, std::min(all.size() - first, static_cast<size_t>(batches_.batch_size())));
}

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
