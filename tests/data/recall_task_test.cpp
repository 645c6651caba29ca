#include "framework/data/recall_task.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "framework/data/dataset.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

bool is_letter(char c) {
    return std::isalpha(static_cast<unsigned char>(c)) != 0;
}
bool is_digit(char c) {
    return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

}  // namespace

TEST_CASE("recall task: every question has its answer in the context, once, among distractors") {
    for (const auto& size : {std::pair<int64_t, int64_t>{8, 1}, {65, 3}, {64, 8}, {2048, 26}}) {
        const auto T = size.first, P = size.second;
        INFO(T << " bytes, " << P << " pairs");
        std::set<std::string> seen;
        std::vector<int64_t> digits(10, 0);
        int64_t rounds = 0, again = 0;  // in the order of the round before
        const Corpus corpus = recall_corpus({.seq_len = T, .pairs = P, .sequences = 50});
        for (const std::string_view text : corpus.documents) {
            REQUIRE(std::ssize(text) == T);
            CHECK(seen.emplace(text).second);
            std::map<char, char> context;
            for (size_t t = 0; t < static_cast<size_t>(T / 2); ++t) {
                if (!is_letter(text[t])) continue;
                REQUIRE(is_digit(text[t + 1]));
                CHECK(context.emplace(text[t], text[t + 1]).second);
            }
            CHECK(std::ssize(context) == 2 * P);
            const std::vector<int64_t> questions = recall_questions(text, T);
            std::set<char> asked;
            for (const int64_t t : questions) {
                const char key = text[static_cast<size_t>(t)], value = text[static_cast<size_t>(t) + 1];
                CHECK(asked.insert(key).second);
                REQUIRE(context.contains(key));
                CHECK(context.at(key) == value);
                ++digits[static_cast<size_t>(value - '0')];
            }
            CHECK(std::ssize(questions) == P);
            CHECK(questions.front() == T / 2);
            CHECK(questions.back() == T / 2 + 2 * (P - 1));  // a round asks for each key
            std::string before;
            for (auto t = static_cast<size_t>(T / 2); t + static_cast<size_t>(2 * P) <= text.size();
                 t += static_cast<size_t>(2 * P)) {
                std::string round;
                for (size_t i = 0; i < static_cast<size_t>(P); ++i) round += text[t + 2 * i];
                again += round == before, rounds += !before.empty();
                before = round;
                std::sort(round.begin(), round.end());
                CHECK(round == std::string(asked.begin(), asked.end()));
            }
            for (size_t t = static_cast<size_t>(T / 2); t + 1 < text.size(); t += 2) {
                CHECK(asked.contains(text[t]));
                CHECK(context.at(text[t]) == text[t + 1]);
            }
        }
        if (P == 3) CHECK(std::abs(again - rounds / 6) < rounds / 10);
        if (P == 26) CHECK((rounds > 0 && again == 0));
        if (P == 26)  // 1300 answers: none is more likely than others (5 standard deviations)
            for (const int64_t count : digits) CHECK(std::abs(count - 130) < 55);
    }
    const Corpus nine = recall_corpus({.sequences = 9}), twenty = recall_corpus({.sequences = 20});
    CHECK(nine.documents[8] == twenty.documents[8]);
}

TEST_CASE("recall task: a window of the dataset is a sequence, on one side") {
    const DataConfig config{.task = Task::recall,
                            .recall_pairs = 3,
                            .max_tokens = 4000,
                            .cache_dir = "",
                            .seq_len = 32,
                            .batch_size = 4};
    const Dataset data = load_dataset(config);
    const Corpus corpus = recall_corpus({.seq_len = 32, .pairs = 3, .sequences = 4000 / 33});
    const std::set<std::string> all(corpus.documents.begin(), corpus.documents.end());
    std::set<std::string> train, held_out;
    const auto read = [&](const Batch& batch, std::set<std::string>& side) {
        for (int64_t row = 0; row < batch.tokens.dim(0); ++row) {
            const std::vector<int32_t> tokens = batch.tokens.rows(row, row + 1).to_vector<int32_t>();
            const std::string text = data.tokenizer().decode(tokens);
            CHECK(all.contains(text));
            CHECK(batch.targets.rows(row, row + 1).to_vector<int32_t>().back() == 0);  // <|endoftext|>
            CHECK(data.questions(tokens) == recall_questions(text, 32));
            side.insert(text);
        }
    };
    for (int64_t step = 0; step < 40; ++step) read(data.batch(step), train);
    for (int64_t i = 0; i < data.validation_batches(); ++i) read(data.validation(i), held_out);
    CHECK(train.size() > 90);
    CHECK(held_out.size() > 5);
    for (const std::string& text : held_out) CHECK(!train.contains(text));
    CHECK(data.tokenizer().vocab_size() == 257);
}

TEST_CASE("recall task: errors") {
    check_error("recall_pairs: 27, want 1 to 26: each has a letter, and so has a distractor",
                [] { check_recall_task(1000, 27); });
    check_error(
        "max_seq_len: 63, want at least 64 with recall_pairs 8: half of it holds 16 pairs of two tokens; "
        "raise it or "
        "lower recall_pairs",
        [] { check_recall_task(63, 8); });
    check_error("data: x.txt with task recall, which makes its own text; leave one of them out",
                [] { load_dataset({.task = Task::recall, .data = "x.txt"}); });
}
