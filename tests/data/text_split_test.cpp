#include "framework/data/text_split.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "framework/core/hash.h"
#include "framework/core/rng.h"
#include "framework/data/dataset.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

namespace fs = std::filesystem;

// Lines that no two documents share: "7-000123 and some words".
std::string numbered_lines(int64_t document, int64_t lines) {
    std::string text;
    for (int64_t i = 0; i < lines; ++i) text += fmt::format("{}-{:06} and some words\n", document, i);
    return text;
}

// Letters without a place to move a cut to.
std::string letters(int64_t count, uint64_t seed) {
    std::string text;
    for (int64_t i = 0; i < count; ++i)
        text += static_cast<char>('a' + philox({seed, 5}, static_cast<uint64_t>(i)).v[0] % 26);
    return text;
}

std::vector<std::string> texts_of(const std::vector<TextPiece>& pieces) {
    std::vector<std::string> texts;
    for (const TextPiece& piece : pieces) texts.emplace_back(piece.text);
    return texts;
}

int64_t bytes_of(const std::vector<TextPiece>& pieces) {
    int64_t sum = 0;
    for (const TextPiece& piece : pieces) sum += std::ssize(piece.text);
    return sum;
}

// Every byte of every document is in one piece, on one side; and pieces say truly where they begin and end.
void check_partition(const Corpus& corpus, const TextSplit& split) {
    std::vector<TextPiece> all = split.train;
    all.insert(all.end(), split.validation.begin(), split.validation.end());
    for (const std::string_view document : corpus.documents) {
        std::vector<TextPiece> mine;
        for (const TextPiece& piece : all)
            if (piece.text.data() >= document.data() && piece.text.data() < document.data() + document.size())
                mine.push_back(piece);
        std::sort(mine.begin(), mine.end(),
                  [](const TextPiece& a, const TextPiece& b) { return a.text.data() < b.text.data(); });
        std::string joined;
        for (size_t i = 0; i < mine.size(); ++i) {
            joined += mine[i].text;
            CHECK(mine[i].begins_document == (i == 0));
            CHECK(mine[i].ends_document == (i + 1 == mine.size()));
        }
        CHECK(joined == document);
    }
    CHECK(bytes_of(all) == corpus.bytes());
    int64_t held_out = 0;
    for (const SourceShare& s : split.sources) held_out += s.held_out_bytes;
    CHECK(held_out == bytes_of(split.validation));
}

double unit(uint64_t bits) {
    return static_cast<double>(bits >> 11) / 9007199254740992.0;
}

// "7-000123" of all whole lines in the text.
std::set<std::string> line_numbers(const std::string& text) {
    std::set<std::string> numbers;
    for (size_t at = text.find('-'); at != std::string::npos; at = text.find('-', at + 1))
        if (at > 0 && at + 7 < text.size()) numbers.insert(text.substr(at - 1, 8));
    return numbers;
}

std::set<std::string> lines_read(const Dataset& data, bool validation) {
    std::set<std::string> numbers;
    const std::vector<int64_t>& starts = validation ? data.windows().validation : data.windows().train;
    for (const int64_t start : starts)
        numbers.merge(line_numbers(data.tokenizer().decode(data.tokens().subspan(
            static_cast<size_t>(start), static_cast<size_t>(data.windows().length) + 1))));
    return numbers;
}

}  // namespace

TEST_CASE("held-out blocks: where they lie in one document, by the formulas") {
    for (const int64_t n : {100'000, 655'361, 1'000'003}) {
        const Corpus corpus = corpus_of_texts("x", {letters(n, 7)});
        const TextSplit split = hold_out_blocks(corpus, 0.1, 128);
        const uint64_t hash = ContentHash().add(corpus.documents[0]).value();
        const double u = unit(hash), v = unit(ContentHash().add(static_cast<int64_t>(hash)).value());
        const auto size = static_cast<double>(n);
        const double b = std::max(2064.0, std::min(8192.0, std::floor(0.1 * size / 8)));
        const auto m = static_cast<size_t>(0.1 * size / b + u);
        REQUIRE(split.validation.size() == m);
        for (size_t i = 0; i < m; ++i) {
            const double begin = (static_cast<double>(i) + v) * size / static_cast<double>(m) - v * b;
            const double found =
                static_cast<double>(split.validation[i].text.data() - corpus.documents[0].data());
            CHECK(std::abs(found - begin) <= 1);
            CHECK(std::abs(static_cast<double>(split.validation[i].text.size()) - b) <= 1);
        }
        check_partition(corpus, split);
    }
}

TEST_CASE("held-out blocks: every document gives its share, and cuts lie where lines begin") {
    std::vector<std::string> texts;
    for (int64_t d = 0; d < 5; ++d) texts.push_back(numbered_lines(d, 3000 + 4000 * d));
    const Corpus corpus = corpus_of_texts("x", texts);
    for (const double fraction : {0.05, 0.1, 0.3, 0.5}) {
        const TextSplit split = hold_out_blocks(corpus, fraction, 128);
        check_partition(corpus, split);
        for (const std::string_view document : corpus.documents) {
            int64_t held_out = 0;
            for (const TextPiece& piece : split.validation)
                if (piece.text.data() >= document.data() &&
                    piece.text.data() < document.data() + document.size())
                    held_out += std::ssize(piece.text);
            CHECK(std::abs(static_cast<double>(held_out) - fraction * static_cast<double>(document.size())) <
                  8192 + 300);
        }
        for (const auto* side : {&split.train, &split.validation})
            for (const TextPiece& piece : *side) CHECK(piece.text.ends_with('\n'));
    }
}

TEST_CASE("held-out blocks: short documents are held out whole, the same share of them") {
    std::vector<std::string> texts;
    for (int64_t d = 0; d < 4000; ++d) texts.push_back(fmt::format("{} {}", d, letters(300, 11)));
    const Corpus corpus = corpus_of_texts("x", texts);
    const TextSplit split = hold_out_blocks(corpus, 0.1, 64);
    check_partition(corpus, split);
    CHECK(std::abs(static_cast<double>(split.validation.size()) - 400) < 4 * std::sqrt(4000 * 0.1 * 0.9));
    for (const TextPiece& piece : split.validation) CHECK((piece.begins_document && piece.ends_document));
    // One that is there twice is on one side.
    std::vector<std::string> doubled = texts;
    doubled.insert(doubled.end(), texts.begin(), texts.end());
    const Corpus twice = corpus_of_texts("x", doubled);
    const TextSplit both = hold_out_blocks(twice, 0.1, 64);
    const std::vector<std::string> held_out = texts_of(both.validation), left = texts_of(both.train);
    for (const std::string& text : std::set<std::string>(held_out.begin(), held_out.end()))
        CHECK(std::find(left.begin(), left.end(), text) == left.end());
    CHECK(both.validation.size() == 2 * split.validation.size());
}

TEST_CASE("held-out blocks: names and order of the files are all one") {
    const std::vector<std::string> texts{letters(30000, 1), numbered_lines(2, 900), letters(50, 3),
                                         letters(9000, 4)};
    const Corpus corpus = corpus_of_texts("x", texts, {"a.txt", "b.txt", "c.txt"}, {0, 1, 1, 2});
    const Corpus renamed =
        corpus_of_texts("y", {texts.rbegin(), texts.rend()}, {"0.txt", "b/long.txt", "zz.txt"}, {0, 1, 1, 2});
    const TextSplit a = hold_out_blocks(corpus, 0.1, 32), b = hold_out_blocks(renamed, 0.1, 32);
    CHECK(texts_of(a.train) == texts_of(b.train));
    CHECK(texts_of(a.validation) == texts_of(b.validation));
    REQUIRE(a.sources.size() == 3);
    for (size_t i = 0; i < 3; ++i) {
        CHECK(a.sources[i].bytes == b.sources[i].bytes);
        CHECK(a.sources[i].held_out_bytes == b.sources[i].held_out_bytes);
    }
    // The vocabulary has no say in it; nor has the length of windows that fit.
    CHECK(texts_of(hold_out_blocks(corpus, 0.1, 1).validation) == texts_of(a.validation));
}

TEST_CASE("held-out blocks: very short texts") {
    for (const int64_t n : {1, 2, 7, 40}) {
        const Corpus one = corpus_of_texts("x", {letters(n, 5)});
        const TextSplit split = hold_out_blocks(one, 0.1, 128);
        check_partition(one, split);
        CHECK(!split.train.empty());
        if (n >= 7) CHECK(!split.validation.empty());
    }
    for (uint64_t seed = 0; seed < 40; ++seed) {  // of three documents one is held out, whatever u says
        const Corpus three = corpus_of_texts("x", {letters(50, seed), letters(51, seed), letters(52, seed)});
        for (const double fraction : {0.001, 0.999}) {
            const TextSplit split = hold_out_blocks(three, fraction, 128);
            CHECK(!split.train.empty());
            CHECK(!split.validation.empty());
        }
    }
}

TEST_CASE("held-out blocks: many files are counted by folder, or together") {
    std::vector<std::string> texts, sources;
    std::vector<int64_t> source_of;
    for (int64_t i = 0; i < 100; ++i) {
        texts.push_back(letters(100, static_cast<uint64_t>(i)));
        sources.push_back(fmt::format("{}/{}.txt", i % 3, i));
        source_of.push_back(i);
    }
    Corpus corpus = corpus_of_texts("all", texts, sources, source_of);
    const TextSplit split = hold_out_blocks(corpus, 0.1, 8);
    CHECK(split.sources.size() == 3);
    CHECK(describe_held_out(split).ends_with("of 3 sources"));
    for (std::string& name : corpus.sources) name = name.substr(2);
    REQUIRE(hold_out_blocks(corpus, 0.1, 8).sources.size() == 1);
    CHECK(hold_out_blocks(corpus, 0.1, 8).sources[0].name == "all");
}

TEST_CASE("dataset: no line is read on both sides, and the tokenizer has seen training text alone") {
    const TemporaryFolder folder;
    for (int64_t d = 0; d < 4; ++d)
        write(folder / fmt::format("text/{}.txt", d), numbered_lines(d, 400 + 700 * d));
    for (const int64_t max_tokens : {0, 9000}) {
        const DataConfig config{.data = folder / "text",
                                .vocab_size = 300,
                                .max_tokens = max_tokens,
                                .cache_dir = folder / "cache",
                                .seq_len = 24,
                                .batch_size = 4};
        const Dataset data = load_dataset(config), again = load_dataset(config);  // again: from the cache
        const std::set<std::string> train = lines_read(data, false), held_out = lines_read(data, true);
        CHECK(train.size() > 100);
        CHECK(held_out.size() > 20);
        for (const std::string& line : held_out) CHECK_MESSAGE(!train.contains(line), line);
        const Corpus corpus = load_corpus(folder / "text");
        const TextSplit split = hold_out_blocks(corpus, 0.1, 24);
        std::vector<std::string_view> texts;
        for (const TextPiece& piece : split.train) texts.push_back(piece.text);
        CHECK(data.tokenizer().hash() == Tokenizer::train(texts, 300).hash());
        CHECK(data.windows().train == again.windows().train);
        CHECK(data.windows().validation == again.windows().validation);
        if (max_tokens > 0) CHECK(std::ssize(data.tokens()) == max_tokens);
        CHECK(data.protocol().find("; no token is shared; held out: ") != std::string::npos);
        CHECK(data.fingerprint().held_out.size() == 16);
    }
}

// Of these files one sorted last, and was what was held out: the loss was that of its text.
TEST_CASE("dataset: a file that gets another name changes no batch") {
    const TemporaryFolder folder;
    for (const char* b : {"b.txt", "0.txt"}) {
        const std::string text = folder / fs::path(b).stem().string();
        write(text + "/a.txt", numbered_lines(1, 900));
        write(text + "/" + b, letters(20000, 3));
    }
    const auto load = [&](const std::string& name) {
        return load_dataset(
            {.data = folder / name, .vocab_size = 300, .cache_dir = "", .seq_len = 16, .batch_size = 4});
    };
    const Dataset a = load("b"), b = load("0");
    CHECK(bit_identical(a.batch(3).tokens, b.batch(3).tokens));
    REQUIRE(a.validation_batches() == b.validation_batches());
    for (int64_t i = 0; i < a.validation_batches(); ++i)
        CHECK(bit_identical(a.validation(i).tokens, b.validation(i).tokens));
    CHECK(a.fingerprint().held_out == b.fingerprint().held_out);
    // Each window says whose it is.
    const auto source_of_letters = a.sources()[0].name == "b.txt" ? 0 : 1;
    int64_t seen[2] = {0, 0};
    for (int64_t i = 0; i < a.validation_batches(); ++i) {
        const Batch batch = a.validation(i);
        REQUIRE(std::ssize(a.validation_sources(i)) == batch.tokens.dim(0));
        for (int64_t row = 0; row < batch.tokens.dim(0); ++row) {
            const std::string text =
                a.tokenizer().decode(batch.tokens.rows(row, row + 1).to_vector<int32_t>());
            const int64_t source = a.validation_sources(i)[static_cast<size_t>(row)];
            CHECK((source == source_of_letters) == (text.find('-') == std::string::npos));
            ++seen[source];
        }
    }
    CHECK(seen[0] > 5);
    CHECK(seen[1] > 5);
}

TEST_CASE("dataset: too little text for blocks") {
    const TemporaryFolder folder;
    write(folder / "text.txt", "A short one.");
    check_error(
        folder / "text.txt" +
            ": 0 training and 0 validation windows of 16 tokens with their targets, need at least one of "
            "each; give more text or lower the length of the sequences",
        [&] {
            load_dataset({.data = folder / "text.txt", .vocab_size = 300, .cache_dir = "", .seq_len = 16});
        });
}
