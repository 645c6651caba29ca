#include "framework/data/token_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>

#include "framework/core/error.h"
#include "framework/core/hash.h"
#include "framework/io/atomic_file.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "the token cache is written as it lies in memory");

constexpr std::string_view magic = "SIEVETOK";
// Raised when the tokens or tokenizers made from the same input change: what was kept before is then left
// alone.
constexpr int64_t encoding_version = 1;

struct Header {
    char magic[8];
    uint64_t key;
    uint64_t count;
};

std::string_view bytes_of(const void* data, size_t bytes) {
    return {static_cast<const char*>(data), bytes};
}

std::string_view bytes_of(const std::vector<int32_t>& tokens) {
    return bytes_of(tokens.data(), tokens.size() * sizeof(int32_t));
}

uint64_t hash_of(std::string_view bytes) {
    return ContentHash().add(bytes).value();
}

void write_tokens(const fs::path& path, uint64_t key, const std::vector<int32_t>& tokens) {
    Header header{.magic = {}, .key = key, .count = tokens.size()};
    magic.copy(header.magic, magic.size());
    const uint64_t checksum = hash_of(bytes_of(tokens));
    const std::string_view pieces[] = {bytes_of(&header, sizeof header), bytes_of(tokens),
                                       bytes_of(&checksum, sizeof checksum)};
    write_file_atomic(path, pieces);
}

// Throws when the file is not exactly what write_tokens wrote for `key`, or holds an id outside the
// vocabulary.
std::vector<int32_t> read_tokens(const fs::path& path, uint64_t key, int vocab_size) {
    const std::string bytes = read_file(path);
    Header header{};
    uint64_t checksum = 0;
    constexpr size_t around = sizeof header + sizeof checksum;
    if (bytes.size() < around) fail_bad_file(path.string() + ": too short");
    std::memcpy(&header, bytes.data(), sizeof header);
    std::memcpy(&checksum, bytes.data() + bytes.size() - sizeof checksum, sizeof checksum);
    const auto payload = std::string_view(bytes).substr(sizeof header, bytes.size() - around);
    if (bytes_of(header.magic, magic.size()) != magic || header.key != key) {
        fail_bad_file(path.string() + ": not the token file of this corpus");
    }
    if (payload.size() / sizeof(int32_t) != header.count || payload.size() % sizeof(int32_t) != 0 ||
        hash_of(payload) != checksum) {
        fail_bad_file(path.string() + ": damaged");
    }
    std::vector<int32_t> tokens(header.count);
    if (!tokens.empty()) std::memcpy(tokens.data(), payload.data(), payload.size());
    for (const int32_t id : tokens) {
        if (id < 0 || id >= vocab_size)
            fail_bad_file(fmt::format("{}: token {} is out of range", path.string(), id));
    }
    return tokens;
}

// The result from `path`, or else from make(), which is then stored.
template <class Read, class Make, class Write>
auto from_cache(const fs::path& path, const DataLog& log, Read&& read, Make&& make, Write&& write) {
    std::error_code code;
    if (fs::exists(path, code)) {
        try {
            return read();
        } catch (const Error& e) {
            log(std::string(e.what()) + "; it is made again");
        }
    }
    auto result = make();
    try {
        make_folder(path.parent_path());
        remove_temporary_files(path.parent_path(), std::chrono::hours(1));
        write(result);
    } catch (const Error& e) {
        log(std::string(e.what()) + "; going on without keeping the result");
    }
    return result;
}

// The text up to `fraction` of the corpus' bytes: all of the first documents and a part of one more.
std::vector<std::string_view> leading_text(const Corpus& corpus, double fraction) {
    auto left = static_cast<size_t>(static_cast<double>(corpus.bytes()) * fraction);
    std::vector<std::string_view> texts;
    for (const std::string& document : corpus.documents) {
        const size_t take = std::min(left, document.size());
        if (take > 0) texts.push_back(std::string_view(document).substr(0, take));
        left -= take;
    }
    return texts;
}

}  // namespace

std::vector<int32_t> encode_corpus(const Corpus& corpus, const Tokenizer& tokenizer, int64_t max_tokens,
                                   const DataLog& log) {
    if (max_tokens < 0) fail_usage(fmt::format("max_tokens: {}; want 0 (all) or more", max_tokens));
    const int32_t end = tokenizer.added_token_id(end_of_text);
    const size_t limit = max_tokens > 0 ? static_cast<size_t>(max_tokens) : SIZE_MAX;
    std::vector<int32_t> tokens;
    const int64_t total = corpus.bytes();
    int64_t done = 0;
    const auto report = [&](int64_t bytes) { log.progress("encoding " + corpus.name, done + bytes, total); };
    for (const std::string& document : corpus.documents) {
        if (tokens.size() >= limit) break;
        tokenizer.encode_append(document, tokens,
                                max_tokens > 0 ? static_cast<int64_t>(limit - tokens.size()) : 0, report);
        if (end >= 0 && tokens.size() < limit) tokens.push_back(end);
        done += static_cast<int64_t>(document.size());
    }
    log.progress("encoding " + corpus.name, total, total);
    return tokens;
}

std::vector<int32_t> cached_tokens(const fs::path& folder, const Corpus& corpus, const Tokenizer& tokenizer,
                                   int64_t max_tokens, const DataLog& log) {
    const auto make = [&] { return encode_corpus(corpus, tokenizer, max_tokens, log); };
    if (folder.empty()) return make();
    ContentHash hash;
    hash.add(encoding_version)
        .add(static_cast<int64_t>(corpus.hash()))
        .add(static_cast<int64_t>(tokenizer.hash()));
    const uint64_t key = hash.add(max_tokens).value();
    const fs::path path = folder / ("tokens-" + to_hex(key) + ".bin");
    return from_cache(
        path, log, [&] { return read_tokens(path, key, tokenizer.vocab_size()); }, make,
        [&](const std::vector<int32_t>& tokens) { write_tokens(path, key, tokens); });
}

Tokenizer cached_tokenizer(const fs::path& folder, const Corpus& corpus, int vocab_size,
                           double train_fraction, const DataLog& log) {
    const std::vector<std::string_view> texts = leading_text(corpus, train_fraction);
    const auto progress = [&](const char* what, int64_t done, int64_t total) {
        log.progress(fmt::format("{} of {}", what, corpus.name), done, total);
    };
    const auto make = [&] { return Tokenizer::train(texts, vocab_size, progress); };
    if (folder.empty()) return make();
    ContentHash hash;
    hash.add(encoding_version).add(vocab_size);
    for (const std::string_view text : texts) hash.add(text);
    const fs::path path = folder / ("tokenizer-" + to_hex(hash.value()) + ".json");
    return from_cache(
        path, log, [&] { return Tokenizer::load(path); }, make,
        [&](const Tokenizer& tokenizer) { tokenizer.save(path); });
}

}  // namespace sieve
