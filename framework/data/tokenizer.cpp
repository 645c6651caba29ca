#include "framework/data/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <queue>

#include "framework/core/available_memory.h"
#include "framework/core/error.h"
#include "framework/core/hash.h"
#include "framework/data/word_table.h"
#include "framework/io/atomic_file.h"

namespace sieve {
namespace {

// A word while its pairs are merged: a doubly linked list of symbols. Taking the lowest rank, then the
// leftmost place, from a heap costs O(n log n) for n bytes, so that one endless "word" is no trap.
struct Symbol {
    int32_t id;
    int32_t previous, next;  // -1: none
};

struct Candidate {
    int32_t rank, place, result;
    bool operator>(const Candidate& other) const {
        return rank != other.rank ? rank > other.rank : place > other.place;
    }
};

// Merging takes tens of bytes for each byte of a word, which matters for a text without any space.
void check_word(size_t bytes) {
    constexpr size_t harmless = 16 << 20, each = 40;
    if (bytes <= harmless) return;
    if (bytes > static_cast<size_t>(std::numeric_limits<int32_t>::max()) ||
        bytes * each > static_cast<size_t>(available_memory()))
        throw Error(
            ErrorKind::out_of_memory,
            fmt::format(
                "tokenizer: one word of {} MiB takes about {} MiB to split into tokens; is it a text, "
                "with spaces between its words?",
                bytes >> 20, bytes * each >> 20));
}

using CandidateHeap = std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>>;

}  // namespace

class Tokenizer::Words {
  public:
    // The ids of a word: `count` of them, the first one here, all of them in `pool` from `begin` on.
    struct Span {
        size_t begin = 0;
        int32_t count = 0, first = 0;
    };

    WordTable table;
    std::vector<Span> spans;
    std::vector<int32_t> pool;
    std::deque<std::string> made;  // texts that are not the caller's, for one of them
    std::vector<int32_t>* ids = nullptr;
    size_t limit = 0;  // of *ids
    const std::function<void(int64_t bytes)>* passed = nullptr;
    int64_t bytes_done = 0, bytes_in_all = 0;

    bool wants_more() const { return ids->size() < limit; }
    void note_done(size_t bytes) {
        constexpr int64_t between = 1 << 20;
        const int64_t before = bytes_done;
        // Normalizing may have made the text longer.
        bytes_done = std::min(bytes_done + static_cast<int64_t>(bytes), bytes_in_all);
        if (before / between == bytes_done / between) return;
        const size_t there = ids->size();
        if (*passed) (*passed)(bytes_done);
        if (limit != no_limit) limit -= there - ids->size();
    }
    // A text of many different words must not fill the memory.
    void forget_when_full() {
        constexpr size_t most = 64 << 20;
        if (table.bytes() + pool.size() * sizeof pool[0] + spans.size() * sizeof spans[0] < most) return;
        table = {};
        spans.clear();
        pool.clear();
    }

    static constexpr size_t no_limit = std::numeric_limits<size_t>::max();
};

void Tokenizer::index() {
    byte_ids_.fill(-1);
    id_of_.clear();
    found_raw_ = found_normalized_ = {};
    for (const AddedToken& token : added_) {
        const std::string text = token.normalized ? normalize(token.content) : token.content;
        if (!(token.normalized ? found_normalized_ : found_raw_).add(text, token))
            fail_bad_file(
                fmt::format("the added token {:?} is the same as another one once it is normalized: {:?}",
                            shortened(token.content), shortened(text)));
    }
    for (size_t id = 0; id < model_size_; ++id) {
        const std::string& token = tokens_[id];
        if (token.size() == 1) byte_ids_[static_cast<unsigned char>(token[0])] = static_cast<int32_t>(id);
        if (ignore_merges_) id_of_.emplace(token, static_cast<int32_t>(id));
    }
    merge_ranks_.reserve(merges_.size());
    for (size_t rank = 0; rank < merges_.size(); ++rank)
        merge_ranks_.set(merges_[rank].left, merges_[rank].right, static_cast<int32_t>(rank));
}

int32_t Tokenizer::byte_id(unsigned char byte) const {
    const int32_t id = byte_ids_[byte] >= 0 ? byte_ids_[byte] : unknown_id_;
    if (id < 0)
        fail_bad_file(fmt::format("tokenizer: its vocabulary has no token for the byte 0x{:02X}", byte));
    return id;
}

void Tokenizer::encode_word(std::string_view word, std::vector<int32_t>& ids) const {
    if (ignore_merges_) {
        if (const auto found = id_of_.find(std::string(word)); found != id_of_.end()) {
            ids.push_back(found->second);
            return;
        }
    }
    check_word(word.size());
    const auto n = static_cast<int32_t>(word.size());
    std::vector<Symbol> symbols(word.size());
    for (int32_t i = 0; i < n; ++i) {
        const auto byte = static_cast<unsigned char>(word[static_cast<size_t>(i)]);
        symbols[static_cast<size_t>(i)] = {byte_id(byte), i - 1, i + 1 < n ? i + 1 : -1};
    }
    const auto at = [&](int32_t i) -> Symbol& { return symbols[static_cast<size_t>(i)]; };
    // The merge of the symbol at `place` with its next one; rank -1 when there is none.
    const auto candidate_at = [&](int32_t place) -> Candidate {
        if (at(place).id < 0 || at(place).next < 0) return {-1, place, -1};
        const int32_t rank = merge_ranks_.rank(at(place).id, at(at(place).next).id);
        if (rank < 0) return {-1, place, -1};
        return {rank, place, merges_[static_cast<size_t>(rank)].result};
    };
    CandidateHeap heap;
    const auto offer = [&](int32_t place) {
        if (const Candidate c = candidate_at(place); c.rank >= 0) heap.push(c);
    };
    for (int32_t i = 0; i + 1 < n; ++i) offer(i);
    while (!heap.empty()) {
        const Candidate c = heap.top();
        heap.pop();
        if (candidate_at(c.place).rank != c.rank) continue;  // a neighbour was merged meanwhile
        Symbol& left = at(c.place);
        Symbol& right = at(left.next);
        left.id = c.result;
        left.next = right.next;
        right.id = -1;
        if (left.next >= 0) at(left.next).previous = c.place;
        if (left.previous >= 0) offer(left.previous);
        offer(c.place);
    }
    for (int32_t i = n > 0 ? 0 : -1; i >= 0; i = at(i).next) ids.push_back(at(i).id);
}

bool Tokenizer::encode_piece(std::string_view piece, Words& words) const {
    if (pre_tokenizer_.add_prefix_space && piece[0] != ' ') {
        std::string& prefixed = words.made.emplace_back(1, ' ');
        prefixed += piece;
        piece = prefixed;
    }
    for (size_t at = 0; at < piece.size() && words.wants_more();) {
        const size_t end = pre_tokenizer_.use_regex ? word_end(piece, at) : piece.size();
        const std::string_view word = piece.substr(at, end - at);
        const WordTable::Found found = words.table.find_or_add(word);
        if (found.is_new) {
            const size_t begin = words.pool.size();
            encode_word(word, words.pool);
            words.spans.push_back(
                {begin, static_cast<int32_t>(words.pool.size() - begin), words.pool[begin]});
        }
        const Words::Span span = words.spans[found.index];
        words.ids->push_back(span.first);
        for (int32_t i = 1; i < span.count; ++i)
            words.ids->push_back(words.pool[span.begin + static_cast<size_t>(i)]);
        if (found.is_new) words.forget_when_full();
        words.note_done(end - at);
        at = end;
    }
    return words.wants_more();
}

bool Tokenizer::encode_normalized(std::string_view text, Words& words) const {
    return for_each_piece(pre_tokenizer_, text,
                          [&](std::string_view piece) { return encode_piece(piece, words); });
}

std::string Tokenizer::normalize(std::string_view text) const {
    std::string result(text);
    for (const NormalizationForm form : normalizers_)
        if (auto changed = normalized(result, form)) result = std::move(*changed);
    return result;
}

bool Tokenizer::encode_raw(std::string_view text, Words& words) const {
    for (const NormalizationForm form : normalizers_)
        if (auto changed = normalized(text, form)) text = words.made.emplace_back(std::move(*changed));
    if (found_normalized_.empty()) return encode_normalized(text, words);
    return found_normalized_.cut(
        text, [&](std::string_view between) { return encode_normalized(between, words); },
        [&](int32_t id) {
            words.ids->push_back(id);
            return words.wants_more();
        });
}

Tokenizer::Encoder::Encoder(const Tokenizer& tokenizer)
    : tokenizer_(&tokenizer), words_(std::make_unique<Words>()) {}
Tokenizer::Encoder::~Encoder() = default;
Tokenizer::Encoder::Encoder(Encoder&&) noexcept = default;

void Tokenizer::Encoder::append(std::string_view text, std::vector<int32_t>& ids, int64_t max_tokens,
                                const std::function<void(int64_t bytes)>& passed) {
    Words& words = *words_;
    words.ids = &ids;
    words.limit = max_tokens > 0 ? ids.size() + static_cast<size_t>(max_tokens) : Words::no_limit;
    words.passed = &passed;
    words.bytes_done = 0;
    words.bytes_in_all = std::ssize(text);
    tokenizer_->found_raw_.cut(
        text, [&](std::string_view between) { return tokenizer_->encode_raw(between, words); },
        [&](int32_t id) {
            ids.push_back(id);
            return words.wants_more();
        });
    if (ids.size() > words.limit) ids.resize(words.limit);
    words.made.clear();
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
    std::vector<int32_t> ids;
    Encoder(*this).append(text, ids);
    return ids;
}

bool Tokenizer::may_be_cut_at_words() const {
    const auto is_found_in_parts = [](const AddedToken& token) {
        return !token.lstrip && !token.rstrip && token.content.find_first_of(" \n") == std::string::npos;
    };
    return normalizers_.empty() && pre_tokenizer_.steps.empty() && pre_tokenizer_.use_regex &&
           !pre_tokenizer_.add_prefix_space && std::all_of(added_.begin(), added_.end(), is_found_in_parts);
}

int64_t Tokenizer::text_bytes(std::span<const int32_t> ids) const {
    const int32_t end = added_token_id(end_of_text);
    int64_t bytes = 0;
    for (const int32_t id : ids)
        if (id != end) bytes += std::ssize(token_bytes(id));
    return bytes;
}

const std::string& Tokenizer::token_bytes(int id) const {
    if (id < 0 || id >= vocab_size()) {
        fail(fmt::format("tokenizer: there is no token {}; ids go from 0 to {}", id, vocab_size() - 1));
    }
    return tokens_[static_cast<size_t>(id)];
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
    std::string text;
    for (const int32_t id : ids) text += token_bytes(id);
    return text;
}

std::string Tokenizer::token_text(int id) const {
    const std::string& bytes = token_bytes(id);
    std::string text;
    for (size_t at = 0; at < bytes.size();) {
        const Utf8Char c = utf8_at(bytes, at);
        const bool control = c.code < 0x20 || (c.code >= 0x7F && c.code < 0xA0);
        if (c.code == ' ') {
            text += "\u00B7";
        } else if (c.code == '\n') {
            text += "\\n";
        } else if (c.code == '\t') {
            text += "\\t";
        } else if (!c.valid || control) {
            text += fmt::format("\\x{:02X}", c.code);
        } else {
            text += bytes.substr(at, c.length);
        }
        at += c.length;
    }
    return text;
}

int32_t Tokenizer::added_token_id(std::string_view content) const {
    const auto found = std::find_if(added_.begin(), added_.end(),
                                    [&](const AddedToken& token) { return token.content == content; });
    return found == added_.end() ? -1 : found->id;
}

uint64_t Tokenizer::hash() const {
    ContentHash hash;
    for (const std::string& token : tokens_) hash.add(token);
    for (const Merge& m : merges_) hash.add(m.left).add(m.right).add(m.result);
    for (const AddedToken& token : added_) {
        hash.add(token.id).add(token.content);
        // What a token has beside its text is added only where there is something, so that tokenizers without
        // it keep the hash that they had before Sieve knew of it; the same holds for the lists below.
        const int64_t rules = token.normalized + 2 * token.single_word + 4 * token.lstrip + 8 * token.rstrip;
        if (rules) hash.add(rules);
    }
    for (const NormalizationForm form : normalizers_) hash.add("normalizer").add(static_cast<int64_t>(form));
    if (model_size_ != tokens_.size()) hash.add(static_cast<int64_t>(model_size_));
    hash.add(pre_tokenizer_.add_prefix_space).add(pre_tokenizer_.use_regex);
    hash.add(std::ssize(pre_tokenizer_.steps)).add(ignore_merges_).add(unknown_id_);
    for (const auto& step : pre_tokenizer_.steps) {
        if (const auto* digits = std::get_if<DigitsStep>(&step)) {
            hash.add("digits").add(digits->individual);
        } else {
            const auto& split = std::get<SplitStep>(step);
            hash.add(split.is_regex ? "regex" : "text").add(split.pattern);
            hash.add(static_cast<int64_t>(split.behavior)).add(split.invert);
        }
    }
    return hash.value();
}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
    return from_json(read_file(path), path.string());
}

void Tokenizer::save(const std::filesystem::path& path) const {
    write_file_atomic(path, to_json());
}

}  // namespace sieve
