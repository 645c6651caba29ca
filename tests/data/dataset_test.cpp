#include "framework/data/dataset.h"

#include <filesystem>

#include "framework/core/error.h"
#include "framework/data/corpus.h"
#include "framework/io/atomic_file.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

namespace fs = std::filesystem;

std::string some_text() {
    return read_file(testing::source_dir() + "/data/excerpt/persuasion.txt").substr(0, 40000);
}

// The one file in `folder` whose name starts so.
fs::path file_named(const std::string& folder, const std::string& start) {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(folder)) {
        if (entry.path().filename().string().starts_with(start)) found.push_back(entry.path());
    }
    REQUIRE(found.size() == 1);
    return found[0];
}

void flip_byte(const fs::path& path, size_t at) {
    std::string bytes = read_file(path);
    bytes.at(at) = static_cast<char>(bytes[at] ^ 0x20);
    write(path.string(), bytes);
}

struct Notes {
    std::vector<std::string> lines;
    DataLog log() {
        return [this](const std::string& line) { lines.push_back(line); };
    }
};

DataConfig config_of(const TemporaryFolder& folder) {
    return {.data = folder / "text.txt",
            .vocab_size = 400,
            .held_out = HeldOut::tail,
            .cache_dir = folder / "cache",
            .seq_len = 16,
            .batch_size = 4};
}

}  // namespace

TEST_CASE("corpus: a folder's text files in the order of their paths, README.md aside") {
    const TemporaryFolder folder;
    write(folder / "b.txt", "two<|endoftext|>three<|endoftext|>");
    write(folder / "a.md", "\xEF\xBB\xBFone");
    write(folder / "c/d.txt", "four");
    write(folder / "README.md", "not me");
    write(folder / "notes.pdf", "nor me");
    write(folder / "empty.txt", "");
    using Texts = std::vector<std::string>;
    const auto texts = [](const Corpus& c) { return Texts(c.documents.begin(), c.documents.end()); };
    const Corpus corpus = load_corpus(folder.path()), two = load_corpus(folder.path(), {.num_documents = 2});
    CHECK(texts(corpus) == Texts{"one", "two", "three", "four"});
    CHECK(corpus.bytes() == 15);
    CHECK(corpus.sources == Texts{"a.md", "b.txt", "c/d.txt", "empty.txt"});
    CHECK(corpus.source_of == std::vector<int64_t>{0, 1, 1, 2});
    CHECK(load_corpus(folder / "b.txt").sources == Texts{"b.txt"});
    CHECK(two.source_of == std::vector<int64_t>{0, 1});
    CHECK(texts(two) == Texts{"one", "two"});
    CHECK(texts(load_corpus(folder / "b.txt")) == Texts{"two", "three"});
    CHECK(two.hash != corpus.hash);
}

TEST_CASE("corpus: errors are one clear line") {
    const TemporaryFolder folder;
    const auto refused = [&](const std::string& name, const std::string& message) {
        check_error(folder / name + ": " + message, [&] { load_corpus(folder / name); });
    };
    refused("none", "no such file or folder; give a text file or a folder of them");
    write(folder / "empty.txt", "");
    refused("empty.txt", "empty; give some text");
    write(folder / "ends.txt", "<|endoftext|><|endoftext|>");
    refused("ends.txt", "empty; give some text");
    write(folder / "nul.txt", std::string("ab\0cd", 5));
    refused("nul.txt", "binary, not text: byte 2 is NUL; want UTF-8");
    write(folder / "noise.txt", "\xFF\xFE\x80 abc");
    refused("noise.txt", "binary, not text: 3 of 7 bytes are not UTF-8");
    write(folder / "pictures/x.png", "x");
    refused("pictures",
            "no .txt, .md or .jsonl file in this folder, nor one of them with .gz or .zst; it holds 1 other "
            "file, "
            "such as x.png");
    check_error("num_documents: -1; want 0 (all) or more",
                [&] { load_corpus(folder / "empty.txt", {.num_documents = -1}); });
}

TEST_CASE("dataset: documents end with <|endoftext|>, and limits cut") {
    const Tokenizer t = Tokenizer::train(some_text(), 300);
    const std::vector<TextPiece> pieces{
        {.text = "one two"}, {.text = "thr", .ends_document = false}, {.text = "ee"}};
    std::vector<int32_t> want = t.encode("one two<|endoftext|>thr");
    const int64_t cut = std::ssize(want);
    for (const int32_t id : t.encode("ee<|endoftext|>")) want.push_back(id);
    std::vector<int32_t> tokens;
    const auto encode = [&](int64_t limit) {
        tokens.clear();
        return encode_pieces(pieces, t, limit, "x", [&](std::span<const int32_t> some) {
            tokens.insert(tokens.end(), some.begin(), some.end());
        });
    };
    CHECK(encode(0) == std::vector<int64_t>{std::ssize(t.encode("one two")) + 1, cut, std::ssize(want)});
    CHECK(tokens == want);
    for (size_t limit = 1; limit <= want.size() + 1; ++limit) {
        const auto kept = static_cast<int64_t>(std::min(limit, want.size()));
        const std::vector<int64_t> ends = encode(static_cast<int64_t>(limit));
        CHECK(tokens == std::vector<int32_t>(want.begin(), want.begin() + kept));
        CHECK(ends.back() == kept);
    }
    check_error("max_tokens: -5; want 0 (all) or more", [&] { encode(-5); });
}

TEST_CASE("dataset: what load_dataset gives") {
    const TemporaryFolder folder;
    write(folder / "text.txt", some_text());
    const DataConfig config = config_of(folder);
    const Dataset data = load_dataset(config);
    CHECK(data.tokenizer().vocab_size() == 400);
    CHECK(data.tokenizer().decode(data.tokens()) == some_text() + "<|endoftext|>");
    CHECK(data.source() == folder / "text.txt" + ": 1 document, 40000 bytes");
    CHECK(data.batch(0).tokens.shape() == Shape{4, 16});
    CHECK(data.protocol().starts_with("heldout: "));
    CHECK(data.description().find("vocabulary 400 (trained on this text)") != std::string::npos);

    DataConfig limited = config;
    limited.max_tokens = 1000;
    limited.protocol = Protocol::overlap;
    const Dataset less = load_dataset(limited);
    CHECK(less.tokens().size() == 1000);
    CHECK(less.windows().train.size() + less.windows().validation.size() == 1000 - 16);
    CHECK(less.token_line() == "1000 tokens, vocabulary 400 (trained on this text), cut at max_tokens 1000");

    DataConfig other = config;
    other.tokenizer = folder / "t.json";
    Tokenizer::train("abc abc", 260).save(other.tokenizer);
    CHECK(load_dataset(other).tokenizer().vocab_size() == 259);
}

TEST_CASE("dataset: the tokenizer does not see what is held out") {
    const TemporaryFolder folder;
    const std::string text = some_text();
    DataConfig config = config_of(folder);
    write(folder / "text.txt", text);
    const Dataset a = load_dataset(config);
    write(folder / "text.txt", text.substr(0, 36000) + std::string(4000, 'q'));  // another last tenth
    const Dataset b = load_dataset(config);
    CHECK(a.tokenizer().hash() == b.tokenizer().hash());
    CHECK(!std::equal(a.tokens().begin(), a.tokens().end(), b.tokens().begin(), b.tokens().end()));
}

TEST_CASE("dataset: too little text") {
    const TemporaryFolder folder;
    write(folder / "text.txt", "A short one.");
    const DataConfig config = config_of(folder);
    check_error(
        folder / "text.txt" +
            ": 13 tokens, need at least 34, a train and a validation window with their targets; give more "
            "text or lower the length of the sequences",
        [&] { load_dataset(config); });
}

TEST_CASE("dataset: the cache is used, and made again when the source changes") {
    const TemporaryFolder folder;
    write(folder / "text.txt", some_text());
    Notes notes;
    const Dataset first = load_dataset(config_of(folder), notes.log());
    const fs::path tokens = file_named(folder / "cache", "tokens-");
    const fs::path tokenizer = file_named(folder / "cache", "tokenizer-");
    const auto written = fs::last_write_time(tokens);
    const Dataset second = load_dataset(config_of(folder), notes.log());
    CHECK(std::equal(first.tokens().begin(), first.tokens().end(), second.tokens().begin(),
                     second.tokens().end()));
    CHECK(fs::last_write_time(tokens) == written);
    CHECK(notes.lines.empty());

    write(folder / "text.txt", "Changed. " + some_text());
    const Dataset third = load_dataset(config_of(folder), notes.log());
    CHECK(third.tokenizer().decode(third.tokens()).starts_with("Changed. "));
    CHECK(std::distance(fs::directory_iterator(folder / "cache"), fs::directory_iterator()) == 4);
    CHECK(notes.lines.empty());
}

TEST_CASE("dataset: a damaged cache is made again, with a note") {
    const TemporaryFolder folder;
    write(folder / "text.txt", some_text());
    const Dataset good = load_dataset(config_of(folder));
    const fs::path tokens = file_named(folder / "cache", "tokens-");
    const fs::path tokenizer = file_named(folder / "cache", "tokenizer-");
    const std::string good_tokens = read_file(tokens), good_tokenizer = read_file(tokenizer);
    const auto check_repaired = [&](const fs::path& path, const std::string& note) {
        Notes notes;
        const Dataset again = load_dataset(config_of(folder), notes.log());
        REQUIRE(notes.lines.size() == 1);
        CHECK(notes.lines[0] == path.string() + ": " + note + "; it is made again");
        CHECK(again.tokenizer().hash() == good.tokenizer().hash());
        CHECK(read_file(tokens) == good_tokens);
        CHECK(read_file(tokenizer) == good_tokenizer);
    };
    flip_byte(tokens, 100);
    check_repaired(tokens, "damaged");
    flip_byte(tokens, good_tokens.size() - 39);  // in the count
    check_repaired(tokens, "damaged");
    flip_byte(tokens, good_tokens.size() - 23);  // in the number of pieces
    check_repaired(tokens, "damaged");
    flip_byte(tokens, 9);  // in the key
    check_repaired(tokens, "not the token file of this corpus");
    flip_byte(tokens, 18);  // a token becomes one of another vocabulary
    check_repaired(tokens, "token " + std::to_string(good.tokens()[0] ^ 0x200000) + " is out of range");
    write(tokens.string(), good_tokens.substr(0, good_tokens.size() - 4));
    check_repaired(tokens, "damaged");
    write(tokens.string(), "");
    check_repaired(tokens, "too short");
    write(tokenizer.string(), "{}");
    check_repaired(tokenizer, "not a tokenizer.json: it has no \"model\"");
}

TEST_CASE("dataset: goes on without a cache that cannot be written, and can do without one") {
    const TemporaryFolder folder;
    write(folder / "text.txt", some_text());
    write(folder / "cache", "a file in the way");
    Notes notes;
    const Dataset data = load_dataset(config_of(folder), notes.log());
    CHECK(data.tokens().size() > 1000);
    CHECK(notes.lines.size() == 2);  // the tokenizer and the tokens
    DataConfig config = config_of(folder);
    config.cache_dir = "";
    CHECK(load_dataset(config, notes.log()).tokens().size() == data.tokens().size());
    CHECK(notes.lines.size() == 2);
}
