// Corpora that are compressed, larger than what may stay in memory, or changed while they are read; and the numbers that
// tokens and windows have had since before texts were mapped.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "framework/core/error.h"
#include "framework/core/hash.h"
#include "framework/core/threads.h"
#include "framework/data/corpus.h"
#include "framework/data/dataset.h"
#include "framework/data/pretokenizer.h"
#include "framework/io/atomic_file.h"
#include "framework/measure/process_memory.h"
#include "tests/support/compress.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

using Texts = std::vector<std::string>;

std::string excerpt() {
    return read_file(testing::source_dir() + "/data/excerpt/persuasion.txt");
}

Texts names_of(const fs::path& folder) {
    Texts names;
    for (const std::string& name : names_in(folder)) names.push_back(name);
    return names;
}

struct Loaded {
    Texts documents, notes;
    uint64_t hash;
};
Loaded load(const fs::path& path, const CorpusOptions& options = {}) {
    Texts notes;
    const Corpus corpus = load_corpus(path, options, [&](const std::string& note) { notes.push_back(note); });
    return {{corpus.documents.begin(), corpus.documents.end()}, notes, corpus.hash};
}

template <class T>
std::string hash_of(std::span<const T> values) {
    return to_hex(
        ContentHash().add({reinterpret_cast<const char*>(values.data()), values.size_bytes()}).value());
}

// All numbers that a run depends on.
std::string numbers_of(const Dataset& data) {
    const Windows& w = data.windows();
    return fmt::format("{} {} {} | {} {} {} {}", data.fingerprint().corpus, data.fingerprint().tokenizer,
                       data.fingerprint().held_out, hash_of(data.tokens()), hash_of(std::span(w.train)),
                       hash_of(std::span(w.validation)), hash_of(std::span(w.sources)));
}

// Some documents as JSON lines, of which one has another key, a NUL, a byte-order mark and an <|endoftext|>.
std::string json_lines(int64_t count) {
    std::string lines;
    for (int64_t i = 0; i < count; ++i)
        lines += fmt::format("{{\"id\": {}, \"text\": \"document {}\\n{}\"}}\n", i, i, std::string(40, 'x'));
    return lines +
           "{\"text\": \"\\ufeffa\\u0000b<|endoftext|>c\"}\n{\"text\": \"<|endoftext|\"}\n{\"text\": "
           "\"last\"}";
}

}  // namespace

// What the implementation gave that read whole files into memory and copied all tokens together.
TEST_CASE("dataset: fingerprints, tokens and windows are what they have always been") {
    const TemporaryFolder folder;
    struct Case {
        HeldOut held_out;
        Protocol protocol;
        int64_t max_tokens;
        const char* numbers;
    };
    const Case cases[] = {
        {HeldOut::blocks, Protocol::heldout, 0,
         "3887e9d36ada3eb4 7eb3d912c173bd7b d6fada3813a292b3 | fd4beb8397dafe8f 88e3ee564d35ec8a "
         "ba6e2fd5e2a312d9 5e7b1116776b3334"},
        {HeldOut::blocks, Protocol::heldout, 20000,
         "3887e9d36ada3eb4 7eb3d912c173bd7b d6fada3813a292b3 | 71905484deb60889 2b33a12079c50ff7 "
         "2a33622ebcb50076 ee551b0ee9d8f35a"},
        {HeldOut::tail, Protocol::heldout, 0,
         "3887e9d36ada3eb4 4c95db8181993766  | 6ad4e28aabdb5c9d fc909278c3b9cfa9 b5d5d52e4cd8c352 "
         "c77b3abb6f87acd9"},
        {HeldOut::blocks, Protocol::overlap, 30000,
         "3887e9d36ada3eb4 4c95db8181993766  | c2d14066c884b83c 7c7faf8dfd8fd78e 4f80f57199b41863 "
         "c77b3abb6f87acd9"}};
    for (const Case& c : cases) {
        DataConfig config{.data = testing::source_dir() + "/data/excerpt",
                          .vocab_size = 600,
                          .max_tokens = c.max_tokens,
                          .protocol = c.protocol,
                          .held_out = c.held_out,
                          .cache_dir = folder / "cache"};
        CHECK(numbers_of(load_dataset(config)) == c.numbers);
        CHECK(numbers_of(load_dataset(config)) == c.numbers);  // from the cache
        config.cache_dir = "";
        CHECK(numbers_of(load_dataset(config)) == c.numbers);
    }
}

TEST_CASE("dataset: threads change no bit, nor does a text that is compressed") {
    const TemporaryFolder folder;
    std::string text;
    for (int i = 0; i < 16; ++i) text += excerpt() + "<|endoftext|>";  // cut for several threads
    write(folder / "a/text.txt", text);
    write(folder / "b/text.txt", zstd_packed(text));  // what it is, its bytes tell
    write(folder / "c/text.txt", gzipped(text));
    const auto numbers = [&](const std::string& name, HeldOut held_out) {
        return numbers_of(load_dataset({.data = folder / name,
                                        .vocab_size = 500,
                                        .held_out = held_out,
                                        .cache_dir = folder / "cache" + name,
                                        .seq_len = 32}));
    };
    const int64_t threads = thread_count();
    for (const HeldOut held_out : {HeldOut::blocks, HeldOut::tail}) {
        set_thread_count(1);
        const std::string want = numbers("a", held_out);
        set_thread_count(3);
        CHECK(numbers("b", held_out) == want);
        CHECK(numbers("c", held_out) == want);
        fs::remove_all(folder / "cachea");
        CHECK(numbers("a", held_out) == want);
    }
    set_thread_count(threads);
}

TEST_CASE("word border: both sides have the words of the whole") {
    const std::string text =
        excerpt().substr(0, 20000) + " it's 12 o'clock  \n\n x\t y\u00a0 z \u3000 'll 's";
    const auto words_of = [](std::string_view part) {
        Texts words;
        for (size_t at = 0, end = 0; at < part.size(); at = end) {
            end = word_end(part, at);
            words.emplace_back(part.substr(at, end - at));
        }
        return words;
    };
    const Texts whole = words_of(text);
    for (size_t at = 0; at<text.size(); at += at> 19900 ? 1 : 97) {
        const size_t border = word_border(text, at);
        REQUIRE((border >= at && border > 0));
        Texts both = words_of(std::string_view(text).substr(0, border));
        for (std::string& word : words_of(std::string_view(text).substr(border)))
            both.push_back(std::move(word));
        REQUIRE(both == whole);
    }
    CHECK(word_border("abc", 0) == 3);
    CHECK(word_border("a b", 0) == 1);
    CHECK(word_border("a  b c", 2) == 4);
}

// Of texts that may not be cut one may be long: it is encoded and handed on a mebibyte at a time.
TEST_CASE("encoding: a long text of a tokenizer that sees words in their surroundings") {
    std::string text;
    while (text.size() < 9'000'000 * static_cast<size_t>(std::max(1, thread_count()))) text += excerpt();
    Tokenizer plain = Tokenizer::train(excerpt(), 400);
    std::string json = plain.to_json();
    const size_t at = json.find("\"add_prefix_space\"");
    REQUIRE(at != std::string::npos);
    json.replace(json.find("false", at), 5, "true");
    const Tokenizer tokenizer = Tokenizer::from_json(json, "prefixed.json");
    CHECK(plain.may_be_cut_at_words());
    REQUIRE(!tokenizer.may_be_cut_at_words());
    std::vector<int32_t> want = tokenizer.encode(text), tokens;
    want.push_back(0);
    int64_t calls = 0;
    const std::vector<TextPiece> pieces{{.text = text}};
    for (const int64_t limit : {int64_t{0}, int64_t{2'000'000}}) {
        tokens.clear();
        const auto ends = encode_pieces(pieces, tokenizer, limit, "x", [&](std::span<const int32_t> some) {
            tokens.insert(tokens.end(), some.begin(), some.end());
            ++calls;
        });
        const size_t kept = limit > 0 ? static_cast<size_t>(limit) : want.size();
        CHECK(ends == std::vector<int64_t>{static_cast<int64_t>(kept)});
        CHECK(tokens.size() == kept);
        CHECK(std::equal(tokens.begin(), tokens.end(), want.begin()));
    }
    CHECK(calls > 5);
}

TEST_CASE("corpus: compressed files, of text and of JSON lines, alone and in a folder") {
    const TemporaryFolder folder;
    const std::string lines = json_lines(3);
    const Texts plain{"one", "two"};
    write(folder / "all/a.txt", "\xEF\xBB\xBFone<|endoftext|>two");
    write(folder / "all/b.jsonl", lines);
    const Texts documents = load(folder / "all/b.jsonl").documents;
    CHECK(documents.size() == 7);
    CHECK(documents[3] == std::string("\xEF\xBB\xBF"
                                      "a\0b",
                                      6));
    CHECK(documents[5] == "<|endoftext|");
    Texts all = plain;
    for (const std::string& document : documents) all.push_back(document);
    CHECK(load(folder / "all").documents == all);
    write(folder / "gz/a.md.gz", gzipped("\xEF\xBB\xBFone<|endofte") + gzipped("xt|>two"));
    write(folder / "gz/b.ndjson.zst", zstd_packed(lines));
    write(folder / "gz/c.csv.gz", gzipped("a,b"));
    write(folder / "gz/README.md", "not me");
    const Loaded loaded = load(folder / "gz");
    CHECK(loaded.documents == all);
    CHECK(loaded.hash == load(folder / "all").hash);
    CHECK(loaded.notes ==
          Texts{(folder / "gz") +
                ": only .txt, .md and .jsonl files are read, and .gz and .zst of them, not 1 other "
                "file, such as c.csv.gz; unpack what is compressed, as in: gunzip -k " +
                (folder / "gz/c.csv.gz")});
    fs::rename(folder / "gz/b.ndjson.zst", folder / "b.json.zst");
    CHECK(load(folder / "b.json.zst").documents == documents);
    CHECK(load(folder / "b.json.zst", {.num_documents = 5}).documents ==
          Texts(documents.begin(), documents.begin() + 5));
    check_error((folder / "b.json.zst") + ":1: has no text under the key \"content\"",
                [&] { load(folder / "b.json.zst", {.text_key = "content"}); });
    write(folder / "c.jsonl.gz", gzipped("{\"text\": 1, \"content\": \"x\"}\n{\"content\": \"y\"}"));
    CHECK(load(folder / "c.jsonl.gz", {.text_key = "content"}).documents == Texts{"x", "y"});
    // Compressed twice, binary, and not what its ending says.
    write(folder / "d.txt.gz", gzipped(gzipped("text")));
    check_error((folder / "d.txt.gz") + ": compressed by gzip, not text; unpack it first: gunzip -k " +
                    (folder / "d.txt.gz"),
                [&] { load(folder / "d.txt.gz"); });
    write(folder / "e.txt.gz", gzipped(std::string("text\0", 5)));
    check_error((folder / "e.txt.gz") + ": binary, not text: byte 4 is NUL; want UTF-8",
                [&] { load(folder / "e.txt.gz"); });
    write(folder / "f.txt.gz", gzipped("cut off").substr(0, 20));
    check_error((folder / "f.txt.gz") + ": its gzip data end too early; is the file whole?",
                [&] { load(folder / "f.txt.gz"); });
}

TEST_CASE("corpus: what is large when it is unpacked lies in the cache folder, and is used again") {
    const TemporaryFolder folder;
    const std::string cache = folder / "cache", path = folder / "x.jsonl.zst";
    write(path, zstd_packed(json_lines(20000)));
    const CorpusOptions options{.cache_dir = cache, .memory_bytes = 100'000};
    const Loaded want = load(path), first = load(path, options);
    CHECK(want.notes.empty());
    CHECK(first.documents == want.documents);
    CHECK(first.hash == want.hash);
    CHECK(first.notes == Texts{path + ": its text is unpacked into " + cache +
                               ", to be used again; text-*.txt may be removed there"});
    REQUIRE(names_of(cache).size() == 1);
    const fs::path kept = fs::path(cache) / names_of(cache)[0];
    CHECK(kept.filename().string().starts_with("text-"));
    const auto written = fs::last_write_time(kept);
    const Loaded again = load(path, options);
    CHECK(again.notes.empty());
    CHECK(again.documents == want.documents);
    CHECK(fs::last_write_time(kept) == written);
    // Another key, another number of documents: another text.
    CHECK(load(path, {.num_documents = 15000, .cache_dir = cache, .memory_bytes = 100'000}).documents ==
          Texts(want.documents.begin(), want.documents.begin() + 15000));
    CHECK(names_of(cache).size() == 2);
    // Damaged in the text, in its length, and cut off: it is made again.
    const std::string good = read_file(kept);
    const auto check_repaired = [&](const std::string& bytes, const std::string& what) {
        write(kept.string(), bytes);
        const Loaded repaired = load(path, options);
        CHECK(repaired.documents == want.documents);
        REQUIRE(repaired.notes.size() == 2);
        CHECK(repaired.notes[0] == kept.string() + ": " + what + "; it is made again");
        CHECK(read_file(kept) == good);
    };
    for (const size_t at :
         {size_t{1000}, good.size() - 30, good.size() - 20, good.size() - 12, good.size() - 1}) {
        std::string bytes = good;
        bytes[at] = static_cast<char>(bytes[at] ^ 4);
        check_repaired(bytes, "damaged");
    }
    check_repaired(good.substr(0, good.size() - 1), "damaged");
    check_repaired("x", "too short");
    fs::remove(kept);
    CHECK(load(path, options).documents == want.documents);
    // A changed source has another text.
    write(path, zstd_packed(json_lines(20000) + "\n{\"text\": \"more\"}"));
    CHECK(load(path, options).documents.back() == "more");
}

TEST_CASE("corpus: a cache that cannot be written, and a disk that is full, leave the text in memory") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.txt.gz", text = std::string(3'000'000, 'a') + " end";
    write(path, gzipped(text));
    write(folder / "file", "in the way");
    const Loaded no_folder = load(path, {.cache_dir = folder / "file", .memory_bytes = 1000});
    CHECK(no_folder.documents == Texts{text});
    CHECK(no_folder.notes ==
          Texts{(folder / "file") + ": cannot make this folder: Not a directory; going on with the "
                                    "text in memory"});
    for (const FileStep step :
         {FileStep::open, FileStep::write, FileStep::fsync, FileStep::close, FileStep::rename}) {
        fail_file_step_after(1, {.step = step, .error = ENOSPC});
        const Loaded full = load(path, {.cache_dir = folder / "cache", .memory_bytes = 1000});
        fail_file_step_after(0);
        CHECK(full.documents == Texts{text});
        CHECK(full.notes.back().ends_with("No space left on device; going on with the text in memory"));
        CHECK(names_of(folder / "cache").empty());
    }
}

TEST_CASE("corpus: kilobytes that stand for more than the disk may have are refused") {
    const TemporaryFolder folder;
    const std::string cache = folder / "cache", bomb = folder / "bomb.txt.zst",
                      line = folder / "line.jsonl.gz";
    write(bomb, zstd_packed(std::string(50'000'000, 'a')));
    check_error(bomb + ": unpacked it has more than 20 MB, for which there is no room in " + cache +
                    "; give less of it, or a folder for the cache on another disk",
                [&] { load(bomb, {.cache_dir = cache, .memory_bytes = 1 << 20, .disk_bytes = 20'000'000}); });
    CHECK(names_of(cache).empty());
    write(folder / "more.txt.zst", zstd_packed(std::string(100'000'000, 'a')));
    for (const std::string& where : {cache, std::string()})
        CHECK_THROWS_WITH_AS(load(folder / "more.txt.zst", {.cache_dir = where}),
                             doctest::Contains("out of proportion"), Error);
    write(line, gzipped("{\"text\": \"" + std::string(50'000'000, 'a')));
    check_error(line + ":1: a line of more than 8 MB, out of proportion to the file; unpack it first",
                [&] { load(line, {.cache_dir = cache}); });
}

TEST_CASE("corpus: a pipe is read into memory, whatever the cache") {
    const TemporaryFolder folder;
    const std::string pipe = folder / "pipe", text = excerpt();
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    for (const int64_t memory : {int64_t{1} << 30, int64_t{50'000}}) {
        std::thread writer([&] { std::ofstream(pipe, std::ios::binary) << gzipped(text); });
        const Loaded loaded = load(pipe, {.cache_dir = folder / "cache", .memory_bytes = memory});
        writer.join();
        CHECK(loaded.documents == Texts{text});
        CHECK(loaded.hash == ContentHash().add(text).value());
    }
    CHECK(names_of(folder / "cache").empty());  // nobody could find it again
}

TEST_CASE("dataset: a text that changes while it is read is refused, and nothing of it is kept") {
    const TemporaryFolder folder;
    const std::string path = folder / "text.txt";
    const DataConfig config{.data = path, .vocab_size = 400, .cache_dir = folder / "cache", .seq_len = 32};
    struct Change {
        const char* when;  // the progress that it follows
        bool shrinks;
    };
    for (const Change& c : {Change{"reading ", true},
                            {"hashing ", false},
                            {"counting ", false},
                            {"counting ", true},
                            {"encoding ", false}}) {
        INFO(c.when);
        fs::remove_all(folder / "cache");
        std::string text;
        for (int i = 0; i < 8; ++i) text += excerpt();
        write(path, text);
        bool changed = false;
        const DataLog log({}, [&](const std::string& what, int64_t, int64_t, DataUnit) {
            if (changed || !what.starts_with(c.when)) return;
            changed = true;
            if (c.shrinks)
                fs::resize_file(path, 100'000);
            else
                std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << "Changed";
            fs::last_write_time(
                path, fs::last_write_time(path) + std::chrono::seconds(1));  // whatever the clock's grain
        });
        check_error(path + ": changed while it was read; start again when nothing writes to it",
                    [&] { load_dataset(config, log); });
        CHECK(changed);
        const bool has_trained = std::string(c.when) == "encoding ";
        CHECK(names_of(folder / "cache").size() == has_trained);
    }
}

TEST_CASE("dataset: tokens whose file is cut off while they are used are no training data") {
    const TemporaryFolder folder;
    write(folder / "text.txt", excerpt());
    const Dataset data = load_dataset(
        {.data = folder / "text.txt", .vocab_size = 400, .cache_dir = folder / "cache", .seq_len = 32});
    data.batch(0);
    for (const std::string& name : names_of(folder / "cache"))
        if (name.starts_with("tokens-")) fs::resize_file(folder / "cache/" + name, 4096);
    CHECK_THROWS_AS(
        [&] {
            for (int64_t step = 1; step < 50; ++step) data.batch(step);
        }(),
        Error);
}

TEST_CASE("dataset: a cache that fails while the tokens are written") {
    const TemporaryFolder folder;
    write(folder / "text.txt", excerpt());
    DataConfig config{.data = folder / "text.txt", .vocab_size = 400, .cache_dir = "", .seq_len = 32};
    const std::string want = numbers_of(load_dataset(config));
    config.cache_dir = folder / "cache";
    load_dataset(config);
    for (int64_t n = 1; n <= 9; ++n) {
        for (const std::string& name : names_of(folder / "cache"))
            if (name.starts_with("tokens-")) fs::remove(folder / "cache/" + name);
        Texts notes;
        fail_file_step_after(n, {.error = ENOSPC});
        const Dataset data = load_dataset(config, [&](const std::string& note) { notes.push_back(note); });
        fail_file_step_after(0);
        CHECK(numbers_of(data) == want);
        if (notes.empty()) continue;  // more steps than there are
        REQUIRE(notes.size() == 1);
        CHECK(notes[0].ends_with("No space left on device; going on without keeping the result"));
        CHECK(names_of(folder / "cache").size() == 1);
    }
}

TEST_CASE("dataset: reading takes memory that does not grow with the text") {
    const TemporaryFolder folder;
    std::string text;
    while (text.size() < (20 << 20)) text += excerpt();
    for (int i = 0; i < 5; ++i)
        for (const char* name : {"small", "large"})
            if (i == 0 || name == std::string("large"))
                write(folder / fmt::format("{}/{}.txt", name, i), text);
    text = {};
    const auto peak = [&](const char* name) {
        const DataConfig config{
            .data = folder / name, .vocab_size = 300, .cache_dir = folder / "cache", .seq_len = 512};
        reset_peak_process_bytes();
        const int64_t before = peak_process_bytes();
        load_dataset(config);
        return peak_process_bytes() - before;
    };
    const int64_t threads = thread_count();
    set_thread_count(1);
    const int64_t small = peak("small"), large = peak("large"), small_cached = peak("small"),
                  large_cached = peak("large");
    set_thread_count(threads);
    INFO(small << ", " << large << ", " << small_cached << ", " << large_cached << " bytes");
    CHECK(large < small + (40 << 20));  // of 84 MB more of text, and 160 MB more of tokens
    CHECK(large_cached < small_cached + (40 << 20));
}
