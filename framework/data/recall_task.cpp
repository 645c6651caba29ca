#include "framework/data/recall_task.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>

#include "framework/core/error.h"
#include "framework/core/rng.h"
#include "framework/data/windows.h"

namespace sieve {
namespace {

constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr std::string_view digits = "0123456789", noise = ".,;:-+*/=<>()[]!";
// Three streams a sequence; apart from all others by the seed.
constexpr uint64_t task_seed = uint64_t{1} << 60;
enum Stream : uint64_t { of_letters, of_places, of_bytes, stream_count };

class Sequence {
  public:
    Sequence(const RecallTask& task, int64_t index)
        : task_(task), first_stream_(static_cast<uint64_t>(index) * stream_count) {}

    std::string text() {
        const int64_t context = task_.seq_len / 2, pairs = 2 * task_.pairs;
        std::string text;
        for (int64_t i = 0; i < context; ++i) text += pick(noise);
        // A pair begins at an even place: no two overlap.
        const std::vector<int64_t> places = permutation(context / 2, of_places);
        const std::vector<int64_t> keys = permutation(std::ssize(letters), of_letters);
        std::vector<std::string> asked;
        for (int64_t i = 0; i < pairs; ++i) {
            const std::string pair{letters[at(keys, i)], pick(digits)};
            text.replace(2 * at(places, i), 2, pair);
            if (i < task_.pairs) asked.push_back(pair);  // in an order that the places do not show
        }
        while (std::ssize(text) < task_.seq_len) {
            shuffle(asked);
            for (const std::string& pair : asked) text += pair;
        }
        text.resize(static_cast<size_t>(task_.seq_len));
        return text;
    }

  private:
    static size_t at(const std::vector<int64_t>& values, int64_t i) {
        return static_cast<size_t>(values[static_cast<size_t>(i)]);
    }
    std::vector<int64_t> permutation(int64_t n, Stream stream) const {
        return random_permutation(n, task_seed, first_stream_ + stream);
    }
    size_t below(size_t n) {
        const uint32_t bits = philox({task_seed, first_stream_ + of_bytes}, picked_++).v[0];
        return static_cast<size_t>(uint64_t{bits} * n >> 32);
    }
    char pick(std::string_view alphabet) { return alphabet[below(alphabet.size())]; }
    void shuffle(std::vector<std::string>& pairs) {
        for (size_t i = pairs.size(); i > 1; --i) std::swap(pairs[i - 1], pairs[below(i)]);
    }

    const RecallTask& task_;
    uint64_t first_stream_, picked_ = 0;
};

}  // namespace

void check_recall_task(int64_t seq_len, int64_t pairs) {
    if (pairs < 1 || pairs > 26)
        fail_usage(
            fmt::format("recall_pairs: {}, want 1 to 26: each has a letter, and so has a distractor", pairs));
    if (seq_len < 8 * pairs)
        fail_usage(fmt::format(
            "max_seq_len: {}, want at least {} with recall_pairs {}: half of it holds {} pairs of two "
            "tokens; raise it or lower recall_pairs",
            seq_len, 8 * pairs, pairs, 2 * pairs));
}

Corpus recall_corpus(const RecallTask& task) {
    check_recall_task(task.seq_len, task.pairs);
    std::vector<std::string> texts;
    for (int64_t i = 0; i < task.sequences; ++i) texts.push_back(Sequence(task, i).text());
    return corpus_of_texts(fmt::format("recall of {} pairs among {}", task.pairs, 2 * task.pairs),
                           std::move(texts), {"recall"},
                           std::vector<int64_t>(static_cast<size_t>(task.sequences), 0));
}

std::vector<int64_t> recall_questions(std::string_view sequence, int64_t seq_len) {
    std::vector<int64_t> places;
    std::set<char> asked;
    for (int64_t t = seq_len / 2; t + 1 < seq_len && t < std::ssize(sequence); t += 2)
        if (asked.insert(sequence[static_cast<size_t>(t)]).second) places.push_back(t);
    return places;
}

}  // namespace sieve
