#include "framework/data/token_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "framework/core/error.h"
#include "framework/core/hash.h"
#include "framework/data/cache_file.h"
#include "framework/data/text_batches.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "the token cache is written as it lies in memory");

constexpr std::string_view magic = "SIEVETK2";
// Raised when the tokens or tokenizers made from the same input change: what was kept before is then left
// alone.
constexpr int64_t encoding_version = 3;

struct Header {
    char magic[8];
    uint64_t key;
};

struct Footer {
    uint64_t train_tokens, held_out_tokens, train_pieces, held_out_pieces;
    uint64_t checksum;
};

template <class T, size_t n>
std::string_view bytes_of(std::span<T, n> values) {
    return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

int64_t bytes_in(std::span<const TextPiece> pieces) {
    int64_t sum = 0;
    for (const TextPiece& piece : pieces) sum += std::ssize(piece.text);
    return sum;
}

// Encodes pieces on all threads, a batch of tasks at a time, and hands their tokens on in the order of the text.
class PieceEncoder {
  public:
    using Progress = std::function<void(int64_t bytes)>;
    PieceEncoder(std::span<const TextPiece> pieces, const Tokenizer& tokenizer, int64_t max_tokens,
                 const TakeTokens& take, const Progress& progress);
    std::vector<int64_t> run();

  private:
    struct Encoded {
        std::vector<int32_t> ids;
        std::vector<size_t> ends;  // of the task's chunks
    };

    bool has_enough() const { return count_ == limit_; }
    int64_t left() const { return limit_ == INT64_MAX ? 0 : limit_ - count_; }
    void encode_together(const std::vector<TextTask>& tasks);
    void encode_alone(const TextChunk& chunk);
    void give(std::span<const int32_t> ids);
    void finish(const TextChunk& chunk);

    std::span<const TextPiece> pieces_;
    const TakeTokens& take_;
    const Progress& progress_;
    int32_t end_token_;
    int64_t limit_, count_ = 0, bytes_ = 0;
    std::vector<Tokenizer::Encoder> encoders_;  // one for each thread
    std::vector<std::string_view> texts_;
    TextBatches batches_;
    std::vector<int32_t> waiting_;  // for take_, which may be a write
    std::vector<int64_t> ends_;
};

std::vector<std::string_view> texts_of(std::span<const TextPiece> pieces) {
    std::vector<std::string_view> texts;
    for (const TextPiece& piece : pieces) texts.push_back(piece.text);
    return texts;
}

PieceEncoder::PieceEncoder(std::span<const TextPiece> pieces, const Tokenizer& tokenizer, int64_t max_tokens,
                           const TakeTokens& take, const Progress& progress)
    : pieces_(pieces),
      take_(take),
      progress_(progress),
      end_token_(tokenizer.added_token_id(end_of_text)),
      limit_(max_tokens > 0 ? max_tokens : INT64_MAX),
      texts_(texts_of(pieces)),
      batches_(texts_, tokenizer.may_be_cut_at_words()) {
    for (int i = 0; i < thread_count(); ++i) encoders_.emplace_back(tokenizer);
}

void PieceEncoder::give(std::span<const int32_t> ids) {
    constexpr size_t most = 1 << 18;
    ids = ids.first(std::min(ids.size(), static_cast<size_t>(limit_ - count_)));
    count_ += std::ssize(ids);
    waiting_.insert(waiting_.end(), ids.begin(), ids.end());
    if (waiting_.size() < most) return;
    take_(waiting_);
    waiting_.clear();
}

// Behind the tokens of a chunk.
void PieceEncoder::finish(const TextChunk& chunk) {
    if (chunk.ends && pieces_[chunk.of].ends_document && end_token_ >= 0) give({&end_token_, 1});
    if (chunk.ends || has_enough()) ends_.push_back(count_);
    bytes_ += std::ssize(chunk.text);
}

void PieceEncoder::encode_together(const std::vector<TextTask>& tasks) {
    std::vector<Encoded> encoded(tasks.size());
    share_tasks(encoders_, tasks.size(), [&](Tokenizer::Encoder& encoder, size_t i) {
        for (const TextChunk& chunk : tasks[i]) {
            encoder.append(chunk.text, encoded[i].ids, left());
            encoded[i].ends.push_back(encoded[i].ids.size());
        }
    });
    for (size_t i = 0; i < tasks.size(); ++i) {
        size_t begin = 0;
        for (size_t c = 0; c < tasks[i].size() && !has_enough(); ++c) {
            give(std::span(encoded[i].ids).subspan(begin, encoded[i].ends[c] - begin));
            begin = encoded[i].ends[c];
            finish(tasks[i][c]);
        }
    }
}

// A long text that may not be cut: its tokens are handed on while it is encoded.
void PieceEncoder::encode_alone(const TextChunk& chunk) {
    std::vector<int32_t> ids;
    encoders_[0].append(chunk.text, ids, left(), [&](int64_t bytes) {
        give(ids);
        ids.clear();
        progress_(bytes_ + bytes);
    });
    give(ids);
    finish(chunk);
}

std::vector<int64_t> PieceEncoder::run() {
    const size_t most = TextBatches::batch_bytes(encoders_.size());
    const auto is_long = [&](const TextTask& task) { return task[0].text.size() > most; };
    while (!has_enough()) {
        // About as much text as the tokens that are still wanted stand for.
        constexpr int64_t least = 1 << 16, of_a_token = 8;
        const auto wanted = limit_ == INT64_MAX || left() > static_cast<int64_t>(most)
                                ? most
                                : static_cast<size_t>(std::max(least, of_a_token * left()));
        const std::vector<TextTask> tasks = batches_.next(std::min(most, wanted));
        if (tasks.empty()) break;
        if (std::any_of(tasks.begin(), tasks.end(), is_long)) {
            for (const TextTask& task : tasks)
                for (const TextChunk& chunk : task)
                    if (!has_enough()) encode_alone(chunk);
        } else {
            encode_together(tasks);
        }
        progress_(bytes_);
    }
    if (!waiting_.empty()) take_(waiting_);
    return std::move(ends_);
}

// Both sides of a split, and where their pieces end in all tokens.
struct Ends {
    std::vector<int64_t> train, held_out;
};
Ends encode_both(const EncodingJob& job, const TakeTokens& take, const DataLog& log) {
    const int64_t total = bytes_in(job.split.train) + bytes_in(job.split.validation);
    int64_t before = 0;
    const DataLog in_all({}, [&](const std::string& what, int64_t done, int64_t, DataUnit) {
        log.progress(what, before + done, total);
    });
    Ends ends;
    ends.train = encode_pieces(job.split.train, job.tokenizer, job.max_train_tokens, job.name, take, in_all);
    before = bytes_in(job.split.train);
    ends.held_out =
        encode_pieces(job.split.validation, job.tokenizer, job.max_held_out_tokens, job.name, take, in_all);
    for (int64_t& end : ends.held_out) end += ends.train.empty() ? 0 : ends.train.back();
    job.check_text();
    return ends;
}

EncodedText encode_in_memory(const EncodingJob& job, const DataLog& log) {
    TokenBuffer tokens;
    Ends ends = encode_both(
        job, [&](std::span<const int32_t> some) { tokens.append(some); }, log);
    return {std::make_shared<const TokenStore>(std::move(tokens)), std::move(ends.train),
            std::move(ends.held_out)};
}

void encode_to_file(const fs::path& path, uint64_t key, const EncodingJob& job, const DataLog& log) {
    std::unique_ptr<AtomicFile> file;
    ContentHash hash;
    const auto write = [&](std::string_view bytes) {
        hash.append(bytes);
        cache_step([&] { file->write(bytes); });
    };
    cache_step([&] {
        prepare_cache_folder(path.parent_path());
        file = std::make_unique<AtomicFile>(path);
    });
    Header header{.magic = {}, .key = key};
    magic.copy(header.magic, magic.size());
    write(bytes_of(std::span(&header, 1)));
    uint64_t count = 0;
    const Ends ends = encode_both(
        job,
        [&](std::span<const int32_t> tokens) {
            count += tokens.size();
            write(bytes_of(tokens));
        },
        log);
    write(bytes_of(std::span(ends.train)));
    write(bytes_of(std::span(ends.held_out)));
    const uint64_t train = ends.train.empty() ? 0 : static_cast<uint64_t>(ends.train.back());
    const uint64_t counts[] = {train, count - train, ends.train.size(), ends.held_out.size()};
    write(bytes_of(std::span(counts)));
    const uint64_t checksum = hash.value();
    cache_step([&] {
        file->write(bytes_of(std::span(&checksum, 1)));
        file->commit();
    });
}

// XXH3 of the bytes, of which those from `begin` to `end` are tokens; throws when one is outside the vocabulary.
uint64_t checksum_of(const MappedFile& file, const fs::path& path, size_t begin, size_t end, int vocab_size,
                     const DataLog& log) {
    const std::string_view bytes = file.bytes().substr(0, file.bytes().size() - sizeof(uint64_t));
    ContentHash hash;
    pass_over(file, bytes, "reading " + path.string(), log, [&](std::string_view part) {
        hash.append(part);
        const auto at = static_cast<size_t>(part.data() - bytes.data());
        const size_t first = std::max(at, begin), last = std::min(at + part.size(), end);
        const auto* ids = reinterpret_cast<const uint32_t*>(bytes.data() + first);
        const size_t count = first < last ? (last - first) / sizeof(int32_t) : 0;
        uint32_t largest = 0;  // an id below 0 is very large here
        for (size_t i = 0; i < count; ++i) largest = std::max(largest, ids[i]);
        if (largest >= static_cast<uint32_t>(vocab_size))
            fail_bad_file(
                fmt::format("{}: token {} is out of range", path.string(), static_cast<int32_t>(largest)));
    });
    return hash.value();
}

// Takes `count` ends from the front of the bytes, which has so many.
std::vector<int64_t> take_ends(std::string_view& bytes, uint64_t count) {
    std::vector<int64_t> ends(count);
    if (count > 0) std::memcpy(ends.data(), bytes.data(), count * sizeof(int64_t));
    bytes.remove_prefix(count * sizeof(int64_t));
    return ends;
}

bool are_ends(const std::vector<int64_t>& ends, int64_t begin, int64_t end) {
    return std::is_sorted(ends.begin(), ends.end()) &&
           (ends.empty() ? begin == end : ends.front() >= begin && ends.back() == end);
}

// Throws when the file is not exactly what encode_to_file wrote for `key`, or holds an id outside the
// vocabulary.
EncodedText read_tokens(const fs::path& path, uint64_t key, int vocab_size, const DataLog& log) {
    auto file = std::make_unique<const MappedFile>(path);
    const std::string_view bytes = file->bytes();
    Header header{};
    Footer footer{};
    constexpr size_t around = sizeof header + sizeof footer;
    if (bytes.size() < around) fail_bad_file(path.string() + ": too short");
    std::memcpy(&header, bytes.data(), sizeof header);
    std::memcpy(&footer, bytes.data() + bytes.size() - sizeof footer, sizeof footer);
    if (std::string_view(header.magic, magic.size()) != magic || header.key != key)
        fail_bad_file(path.string() + ": not the token file of this corpus");
    const uint64_t most = bytes.size() - around;  // whatever the counts say, their sums do not overflow
    for (const uint64_t count :
         {footer.train_tokens, footer.held_out_tokens, footer.train_pieces, footer.held_out_pieces})
        if (count > most) fail_bad_file(path.string() + ": damaged");
    const uint64_t tokens = footer.train_tokens + footer.held_out_tokens;
    const uint64_t pieces = footer.train_pieces + footer.held_out_pieces;
    if (tokens * sizeof(int32_t) + pieces * sizeof(int64_t) != most)
        fail_bad_file(path.string() + ": damaged");
    const size_t tokens_end = sizeof header + tokens * sizeof(int32_t);
    if (checksum_of(*file, path, sizeof header, tokens_end, vocab_size, log) != footer.checksum)
        fail_bad_file(path.string() + ": damaged");
    std::string_view rest = bytes.substr(tokens_end);
    EncodedText text;
    text.train_ends = take_ends(rest, footer.train_pieces);
    text.held_out_ends = take_ends(rest, footer.held_out_pieces);
    const auto train = static_cast<int64_t>(footer.train_tokens);
    if (!are_ends(text.train_ends, 0, train) ||
        !are_ends(text.held_out_ends, train, static_cast<int64_t>(tokens)))
        fail_bad_file(path.string() + ": its pieces do not make up its tokens");
    text.tokens = std::make_shared<const TokenStore>(std::move(file), sizeof header, tokens);
    text.tokens->check_readable();
    return text;
}

constexpr const char* without_keeping = "; going on without keeping the result";

}  // namespace

std::vector<int64_t> encode_pieces(std::span<const TextPiece> pieces, const Tokenizer& tokenizer,
                                   int64_t max_tokens, const std::string& name, const TakeTokens& take,
                                   const DataLog& log) {
    if (max_tokens < 0) fail_usage(fmt::format("max_tokens: {}; want 0 (all) or more", max_tokens));
    const int64_t total = bytes_in(pieces);
    const auto progress = [&](int64_t bytes) { log.progress("encoding " + name, bytes, total); };
    std::vector<int64_t> ends = PieceEncoder(pieces, tokenizer, max_tokens, take, progress).run();
    progress(total);
    return ends;
}

EncodedText cached_tokens(const fs::path& folder, const EncodingJob& job, const DataLog& log) {
    if (folder.empty()) return encode_in_memory(job, log);
    const uint64_t key = ContentHash()
                             .add(encoding_version)
                             .add(static_cast<int64_t>(job.tokenizer.hash()))
                             .add(static_cast<int64_t>(job.split.hash))
                             .add(job.max_train_tokens)
                             .add(job.max_held_out_tokens)
                             .value();
    const fs::path path = folder / ("tokens-" + to_hex(key) + ".bin");
    const auto read = [&] { return read_tokens(path, key, job.tokenizer.vocab_size(), log); };
    if (auto text = read_kept(path, log, read)) return *std::move(text);
    try {
        encode_to_file(path, key, job, log);
        return read();
    } catch (const CacheFailure& e) {
        log(e.reason + without_keeping);
        return encode_in_memory(job, log);
    }
}

Tokenizer cached_tokenizer(const fs::path& folder, const TrainingJob& job, const DataLog& log) {
    const auto progress = [&](const char* what, int64_t done, int64_t total) {
        const bool counts_bytes = std::string_view(what).starts_with("counting");
        log.progress(fmt::format("{} of {}", what, job.name), done, total,
                     counts_bytes ? DataUnit::bytes : DataUnit::tokens);
    };
    const auto make = [&] {
        Tokenizer tokenizer = Tokenizer::train(job.texts, job.vocab_size, progress);
        job.check_text();
        return tokenizer;
    };
    if (folder.empty()) return make();
    const uint64_t key = ContentHash()
                             .add(encoding_version)
                             .add(job.vocab_size)
                             .add(static_cast<int64_t>(job.texts_hash))
                             .value();
    const fs::path path = folder / ("tokenizer-" + to_hex(key) + ".json");
    if (auto tokenizer = read_kept(path, log, [&] { return Tokenizer::load(path); }))
        return *std::move(tokenizer);
    Tokenizer tokenizer = make();
    try {
        prepare_cache_folder(folder);
        tokenizer.save(path);
    } catch (const Error& e) {
        log(std::string(e.what()) + without_keeping);
    }
    return tokenizer;
}

}  // namespace sieve
