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
constexpr int64_t encoding_version = 2;

struct Header {
    char magic[8];
    uint64_t key;
    uint64_t count, pieces;
};

std::string_view bytes_of(const void* data, size_t bytes) {
    return {static_cast<const char*>(data), bytes};
}

template <class T>
std::string_view bytes_of(const std::vector<T>& values) {
    return bytes_of(values.data(), values.size() * sizeof(T));
}

uint64_t checksum_of(const EncodedText& text) {
    return ContentHash().add(bytes_of(text.tokens)).add(bytes_of(text.ends)).value();
}

void write_tokens(const fs::path& path, uint64_t key, const EncodedText& text) {
    Header header{.magic = {}, .key = key, .count = text.tokens.size(), .pieces = text.ends.size()};
    magic.copy(header.magic, magic.size());
    const uint64_t checksum = checksum_of(text);
    const std::string_view parts[] = {bytes_of(&header, sizeof header), bytes_of(text.tokens),
                                      bytes_of(text.ends), bytes_of(&checksum, sizeof checksum)};
    write_file_atomic(path, parts);
}

// Takes `count` values from the front of the bytes, which has so many.
template <class T>
std::vector<T> take(std::string_view& bytes, uint64_t count) {
    std::vector<T> values(count);
    if (count > 0) std::memcpy(values.data(), bytes.data(), count * sizeof(T));
    bytes.remove_prefix(count * sizeof(T));
    return values;
}

// Throws when the file is not exactly what write_tokens wrote for `key`, or holds an id outside the
// vocabulary.
EncodedText read_tokens(const fs::path& path, uint64_t key, int vocab_size) {
    const std::string bytes = read_file(path);
    Header header{};
    uint64_t checksum = 0;
    constexpr size_t around = sizeof header + sizeof checksum;
    if (bytes.size() < around) fail_bad_file(path.string() + ": too short");
    std::memcpy(&header, bytes.data(), sizeof header);
    std::memcpy(&checksum, bytes.data() + bytes.size() - sizeof checksum, sizeof checksum);
    auto payload = std::string_view(bytes).substr(sizeof header, bytes.size() - around);
    if (bytes_of(header.magic, magic.size()) != magic || header.key != key) {
        fail_bad_file(path.string() + ": not the token file of this corpus");
    }
    const uint64_t most = payload.size();  // whatever the counts say, their product does not overflow
    const bool fits = header.count <= most && header.pieces <= most &&
                      header.count * sizeof(int32_t) + header.pieces * sizeof(int64_t) == most;
    if (!fits) fail_bad_file(path.string() + ": damaged");
    EncodedText text{.tokens = take<int32_t>(payload, header.count),
                     .ends = take<int64_t>(payload, header.pieces)};
    if (checksum_of(text) != checksum) fail_bad_file(path.string() + ": damaged");
    for (const int32_t id : text.tokens) {
        if (id < 0 || id >= vocab_size)
            fail_bad_file(fmt::format("{}: token {} is out of range", path.string(), id));
    }
    const bool ends_fit =
        text.ends.empty() ? text.tokens.empty() : text.ends.back() == std::ssize(text.tokens);
    if (!ends_fit || !std::is_sorted(text.ends.begin(), text.ends.end()))
        fail_bad_file(path.string() + ": its pieces do not make up its tokens");
    return text;
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

}  // namespace

EncodedText encode_pieces(std::span<const TextPiece> pieces, const Tokenizer& tokenizer, int64_t max_tokens,
                          const std::string& name, const DataLog& log) {
    if (max_tokens < 0) fail_usage(fmt::format("max_tokens: {}; want 0 (all) or more", max_tokens));
    const int32_t end = tokenizer.added_token_id(end_of_text);
    const int64_t limit = max_tokens > 0 ? max_tokens : INT64_MAX;
    EncodedText text;
    int64_t total = 0, done = 0;
    for (const TextPiece& piece : pieces) total += std::ssize(piece.text);
    const auto report = [&](int64_t bytes) { log.progress("encoding " + name, done + bytes, total); };
    for (const TextPiece& piece : pieces) {
        const int64_t left = limit - std::ssize(text.tokens);
        if (left == 0) break;
        tokenizer.encode_append(piece.text, text.tokens, max_tokens > 0 ? left : 0, report);
        if (piece.ends_document && end >= 0 && std::ssize(text.tokens) < limit) text.tokens.push_back(end);
        text.ends.push_back(std::ssize(text.tokens));
        done += std::ssize(piece.text);
    }
    log.progress("encoding " + name, total, total);
    return text;
}

EncodedText cached_pieces(const fs::path& folder, std::span<const TextPiece> pieces,
                          const Tokenizer& tokenizer, int64_t max_tokens, const std::string& name,
                          const DataLog& log) {
    const auto make = [&] { return encode_pieces(pieces, tokenizer, max_tokens, name, log); };
    if (folder.empty()) return make();
    ContentHash hash;
    hash.add(encoding_version).add(static_cast<int64_t>(tokenizer.hash()));
    for (const TextPiece& piece : pieces) hash.add(piece.text).add(piece.ends_document);
    const uint64_t key = hash.add(max_tokens).value();
    const fs::path path = folder / ("tokens-" + to_hex(key) + ".bin");
    return from_cache(
        path, log, [&] { return read_tokens(path, key, tokenizer.vocab_size()); }, make,
        [&](const EncodedText& text) { write_tokens(path, key, text); });
}

Tokenizer cached_tokenizer(const fs::path& folder, std::span<const std::string_view> texts, int vocab_size,
                           const std::string& name, const DataLog& log) {
    const auto progress = [&](const char* what, int64_t done, int64_t total) {
        log.progress(fmt::format("{} of {}", what, name), done, total);
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
