// Learning the merges. Words are counted once; then each merge touches only the words that hold its pair, and
// adjusts the counts of the pairs around it. A heap yields the next pair; its entries may overstate a count
// that has fallen since, and are put back with the true one when they surface.
#include <fmt/format.h>

#include <limits>
#include <queue>

#include "framework/core/error.h"
#include "framework/data/byte_alphabet.h"
#include "framework/data/pretokenizer.h"
#include "framework/data/text_batches.h"
#include "framework/data/tokenizer.h"
#include "framework/data/word_table.h"

namespace sieve {
namespace {

constexpr int64_t min_count = 2;

struct Pair {
    int32_t left, right;
    bool operator==(const Pair&) const = default;
    auto operator<=>(const Pair&) const = default;  // NOLINT(modernize-use-nullptr): a false alarm
};

struct PairHash {
    size_t operator()(const Pair& p) const {
        const uint64_t key =
            static_cast<uint64_t>(static_cast<uint32_t>(p.left)) << 32 | static_cast<uint32_t>(p.right);
        return key * 0x9E3779B97F4A7C15u >> 20;
    }
};

struct HeapEntry {
    int64_t count;
    Pair pair;
    // The largest comes first: a higher count, then lower ids.
    bool operator<(const HeapEntry& other) const {
        return count != other.count ? count < other.count : pair > other.pair;
    }
};

struct Word {
    uint32_t begin, length;  // its symbols in the common pool; it shrinks in place
    int64_t count;
};

struct WordCounts {
    WordTable table;
    std::vector<int64_t> counts;

    void add(std::string_view word, int64_t count) {
        const WordTable::Found found = table.find_or_add(word);
        if (found.is_new) counts.push_back(0);
        counts[found.index] += count;
    }
    void add_words_of(std::string_view text) {
        for (size_t at = 0; at < text.size();) {
            const size_t end = word_end(text, at);
            add(text.substr(at, end - at), 1);
            at = end;
        }
    }
};

// Each thread counts for itself. Which words it meets, and in what order, nothing that is learnt depends on.
WordCounts count_words(std::span<const std::string_view> texts, const TokenizerProgress& progress) {
    int64_t total = 0, done = 0;
    for (const std::string_view text : texts) total += std::ssize(text);
    std::vector<WordCounts> of_threads(static_cast<size_t>(thread_count()));
    TextBatches batches(texts, true);
    const size_t bytes = TextBatches::batch_bytes(of_threads.size());
    for (auto tasks = batches.next(bytes); !tasks.empty(); tasks = batches.next(bytes)) {
        share_tasks(of_threads, tasks.size(), [&](WordCounts& counts, size_t i) {
            for (const TextChunk& chunk : tasks[i]) counts.add_words_of(chunk.text);
        });
        for (const TextTask& task : tasks)
            for (const TextChunk& chunk : task) done += std::ssize(chunk.text);
        if (progress) progress("counting the words", done, total);
    }
    WordCounts all = std::move(of_threads[0]);
    for (const WordCounts& some : std::span(of_threads).subspan(1))
        for (size_t i = 0; i < some.table.size(); ++i) all.add(some.table.word(i), some.counts[i]);
    return all;
}

class Trainer {
  public:
    Trainer(std::span<const std::string_view> texts, const std::array<int32_t, 256>& byte_ids,
            const TokenizerProgress& progress);

    // The pair to merge next; false when no pair is left that occurs often enough.
    bool next(Pair& pair);
    void merge(Pair pair, int32_t result);

  private:
    struct Occurrences {
        int64_t count = 0;
        std::vector<uint32_t> words;  // ascending within a merge; may hold words that lost the pair since
    };

    void add_word(std::string_view text, int64_t count, const std::array<int32_t, 256>& byte_ids);
    void count_pair(Pair pair, int64_t times, uint32_t word);
    void merge_in_word(uint32_t index, Pair pair, int32_t result);
    void push_grown();

    std::vector<int32_t> symbols_;
    std::vector<Word> words_;
    std::unordered_map<Pair, Occurrences, PairHash> pairs_;
    std::priority_queue<HeapEntry> heap_;
    std::vector<Pair> grown_;  // pairs that gained occurrences since the last push
};

Trainer::Trainer(std::span<const std::string_view> texts, const std::array<int32_t, 256>& byte_ids,
                 const TokenizerProgress& progress) {
    const WordCounts words = count_words(texts, progress);
    for (size_t i = 0; i < words.table.size(); ++i) add_word(words.table.word(i), words.counts[i], byte_ids);
    push_grown();
}

void Trainer::add_word(std::string_view text, int64_t count, const std::array<int32_t, 256>& byte_ids) {
    if (symbols_.size() + text.size() > std::numeric_limits<uint32_t>::max())
        fail_bad_file(
            "tokenizer: the different words of the text have more than 2^32 bytes together; is it a text?");
    const auto index = static_cast<uint32_t>(words_.size());
    words_.push_back({static_cast<uint32_t>(symbols_.size()), static_cast<uint32_t>(text.size()), count});
    for (size_t i = 0; i < text.size(); ++i) {
        symbols_.push_back(byte_ids[static_cast<unsigned char>(text[i])]);
        if (i > 0) count_pair({symbols_[symbols_.size() - 2], symbols_.back()}, count, index);
    }
}

void Trainer::count_pair(Pair pair, int64_t times, uint32_t word) {
    Occurrences& found = pairs_[pair];
    found.count += times;
    if (times < 0) return;
    if (found.words.empty() || found.words.back() != word) found.words.push_back(word);
    grown_.push_back(pair);
}

void Trainer::push_grown() {
    std::sort(grown_.begin(), grown_.end());
    grown_.erase(std::unique(grown_.begin(), grown_.end()), grown_.end());
    for (const Pair& pair : grown_) heap_.push({pairs_[pair].count, pair});
    grown_.clear();
}

bool Trainer::next(Pair& pair) {
    while (!heap_.empty()) {
        const HeapEntry top = heap_.top();
        heap_.pop();
        const auto found = pairs_.find(top.pair);
        const int64_t count = found == pairs_.end() ? 0 : found->second.count;
        if (count < min_count) continue;
        if (count == top.count) {
            pair = top.pair;
            return true;
        }
        heap_.push({count, top.pair});
    }
    return false;
}

// Reads the word's symbols from the left and writes them back with `pair` replaced: at each place the pairs
// with the neighbours on both sides change.
void Trainer::merge_in_word(uint32_t index, Pair pair, int32_t result) {
    Word& word = words_[index];
    int32_t* symbols = symbols_.data() + word.begin;
    uint32_t written = 0;
    for (uint32_t i = 0; i < word.length; ++i) {
        if (i + 1 == word.length || symbols[i] != pair.left || symbols[i + 1] != pair.right) {
            symbols[written++] = symbols[i];
            continue;
        }
        if (written > 0) {
            count_pair({symbols[written - 1], pair.left}, -word.count, index);
            count_pair({symbols[written - 1], result}, word.count, index);
        }
        if (i + 2 < word.length) {
            count_pair({pair.right, symbols[i + 2]}, -word.count, index);
            count_pair({result, symbols[i + 2]}, word.count, index);
        }
        symbols[written++] = result;
        ++i;
    }
    word.length = written;
}

void Trainer::merge(Pair pair, int32_t result) {
    const auto node = pairs_.extract(pair);
    const std::vector<uint32_t> words = std::move(node.mapped().words);
    for (const uint32_t word : words) merge_in_word(word, pair, result);
    pairs_.erase(pair);
    push_grown();
}

}  // namespace

Tokenizer Tokenizer::train(std::string_view text, int vocab_size, const TokenizerProgress& progress) {
    return train(std::span<const std::string_view>(&text, 1), vocab_size, progress);
}

Tokenizer Tokenizer::train(std::span<const std::string_view> texts, int vocab_size,
                           const TokenizerProgress& progress) {
    constexpr int smallest = 257;  // <|endoftext|> and the bytes
    if (vocab_size < smallest) {
        fail_usage(fmt::format("vocab_size: {}; want at least {}, one token a byte and {}", vocab_size,
                               smallest, end_of_text));
    }
    Tokenizer tokenizer;
    tokenizer.tokens_.emplace_back(end_of_text);
    tokenizer.added_.push_back({.id = 0, .content = std::string(end_of_text), .special = true});
    std::vector<std::pair<uint32_t, char>> letters;
    for (size_t b = 0; b < 256; ++b) letters.emplace_back(byte_alphabet()[b], static_cast<char>(b));
    std::sort(letters.begin(), letters.end());
    std::unordered_map<std::string, int32_t> id_of{{tokenizer.tokens_[0], 0}};
    std::array<int32_t, 256> byte_ids{};
    for (const auto& [letter, byte] : letters) {
        byte_ids[static_cast<unsigned char>(byte)] = tokenizer.vocab_size();
        id_of[std::string(1, byte)] = tokenizer.vocab_size();
        tokenizer.tokens_.emplace_back(1, byte);
    }

    Trainer trainer(texts, byte_ids, progress);
    Pair pair{};
    while (tokenizer.vocab_size() < vocab_size && trainer.next(pair)) {
        const std::string token = tokenizer.token_bytes(pair.left) + tokenizer.token_bytes(pair.right);
        // Two pairs may spell the same token: the second merge then leads to the same id.
        const auto [found, is_new] = id_of.emplace(token, tokenizer.vocab_size());
        if (is_new) tokenizer.tokens_.push_back(token);
        tokenizer.merges_.push_back({pair.left, pair.right, found->second});
        trainer.merge(pair, found->second);
        if (progress && tokenizer.vocab_size() % 64 == 0)
            progress("making the tokens", tokenizer.vocab_size(), vocab_size);
    }
    if (progress) progress("making the tokens", vocab_size, vocab_size);
    tokenizer.model_size_ = tokenizer.tokens_.size();
    tokenizer.index();
    return tokenizer;
}

}  // namespace sieve
