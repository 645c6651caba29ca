// What is taken as text, and what is refused or counted. The rest of the corpus is in dataset_test.cpp.
#include "framework/data/corpus.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "framework/core/error.h"
#include "framework/data/token_array.h"
#include "framework/io/npy.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

using Texts = std::vector<std::string>;

struct Loaded {
    Corpus corpus;
    Texts notes;
};
Loaded load(const fs::path& path, int64_t num_documents = 0) {
    Loaded loaded;
    loaded.corpus = load_corpus(path, {.num_documents = num_documents},
                                [&](const std::string& note) { loaded.notes.push_back(note); });
    return loaded;
}

Texts texts_of(const Corpus& corpus) {
    return {corpus.documents.begin(), corpus.documents.end()};
}
Texts texts_in(const fs::path& path, const CorpusOptions& options = {}) {
    return texts_of(load_corpus(path, options));
}

}  // namespace

TEST_CASE("corpus: JSON lines are documents, one a line, alone and in a folder") {
    const TemporaryFolder folder;
    write(folder / "a.jsonl",
          "{\"id\": 1, \"meta\": {\"text\": \"not me\", \"x\": [{\"text\": 2}]}, \"text\": \"one\"}\n"
          "\n"
          "{\"text\": \"two \\u00e9\\n\", \"text_b\": \"nor me\"}\r\n"
          "{\"text\": \"\"}\n"
          "{\"text\": \"three<|endoftext|>four\"}");
    write(folder / "b.txt", "five");
    write(folder / "c/d.ndjson", "\xEF\xBB\xBF{\"text\": \"six\"}\n");
    const Texts lines = {"one", "two \u00e9\n", "three", "four"};
    CHECK(texts_in(folder / "a.jsonl") == lines);
    Texts all = lines;
    all.insert(all.end(), {"five", "six"});
    const Loaded loaded = load(folder.path());
    CHECK(texts_of(loaded.corpus) == all);
    CHECK(loaded.notes.empty());
    CHECK(texts_in(folder / "a.jsonl", {.num_documents = 2}) == Texts{"one", "two \u00e9\n"});
    fs::rename(folder / "a.jsonl", folder / "a.json");
    CHECK(texts_in(folder / "a.json") == lines);
    CHECK(load(folder.path()).notes ==
          Texts{folder.path().string() + ": only .txt, .md and .jsonl files are read, and .gz and .zst of "
                                         "them, not 1 other file, such as a.json"});

    std::string many;
    for (int i = 0; i < 40000; ++i)
        many += "{\"text\": \"document " + std::to_string(i) + ", " + std::string(40, 'x') + "\"}\n";
    write(folder / "many.jsonl", many);  // over several blocks
    const Corpus corpus = load_corpus(folder / "many.jsonl");
    REQUIRE(corpus.documents.size() == 40000);
    for (int i = 0; i < 40000; ++i)
        REQUIRE(
            corpus.documents[static_cast<size_t>(i)].starts_with("document " + std::to_string(i) + ", x"));
}

TEST_CASE("corpus: a line that is no document is named with its number") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.jsonl";
    const auto refuse = [&](const std::string& line, const std::string& message) {
        write(path, "{\"text\": \"fine\"}\n" + line + "\n");
        check_error(path + message, [&] { load_corpus(path); });
    };
    refuse("{\"content\": \"x\"}", ":2: has no text under the key \"text\"");
    refuse("{\"text\": 3}", ":2: has no text under the key \"text\"");
    refuse("{\"text\": [\"x\"]}", ":2: has no text under the key \"text\"");
    refuse("{\"a\": {\"text\": \"x\"}}", ":2: has no text under the key \"text\"");
    refuse("{\"text\": \"x\", \"text\": \"y\"}", ":2: the key \"text\" appears twice in one object");
    refuse("[\"text\"]", ":2: want one JSON object a line");
    refuse("\"text\"", ":2: want one JSON object a line");
    refuse("{\"text\": \"x\" 3}",
           ":2:14: syntax error while parsing object - unexpected number literal; expected '}'; want one "
           "JSON object a line");
    refuse("{\"text\": \"a\xFF\"}",
           ":2:12: syntax error while parsing value - invalid string: ill-formed UTF-8 byte; want one JSON "
           "object a line");
    const auto fails = [&](const std::string& line) {  // however deep
        write(path, line);
        CHECK_THROWS_AS(load_corpus(path), Error);
    };
    fails("{\"text\": " + std::string(300000, '['));
    fails(std::string(300000, '{'));
    write(path, "\n \n");
    check_error(path + ": empty; give some text", [&] { load_corpus(path); });
}

TEST_CASE("corpus: what a folder holds beside its texts is counted, once") {
    const TemporaryFolder folder;
    const std::string name = folder.path().string();
    write(folder / "a.txt", "text");
    for (const char* quiet : {"README.md", ".hidden", "sub/.gitignore"}) write(folder / quiet, "x");
    write(folder / "complete", "");
    CHECK(load(folder.path()).notes.empty());
    write(folder / "b.pdf", "%PDF");
    CHECK(load(folder.path()).notes == Texts{name + ": only .txt, .md and .jsonl files are read, and .gz and "
                                                    ".zst of them, not 1 other file, such as b.pdf"});
    write(folder / "sub/c.csv.gz", "\x1F\x8B\x08");
    write(folder / "sub/d.csv", "a,b");
    CHECK(load(folder.path()).notes ==
          Texts{name +
                ": only .txt, .md and .jsonl files are read, and .gz and .zst of them, not 3 other files, "
                "such as b.pdf and c.csv.gz; unpack "
                "what is compressed, as in: gunzip -k " +
                (folder / "sub/c.csv.gz")});
    fs::create_symlink(folder / "loop", folder / "loop");  // leads nowhere
    CHECK(texts_in(folder.path()) == Texts{"text"});
}

TEST_CASE(
    "corpus: files that are compressed otherwise are named for what they are, with the command that unpacks "
    "them") {
    const TemporaryFolder folder;
    const auto refuse = [&](const std::string& file, const std::string& bytes, const std::string& message) {
        write(folder / file, bytes);
        check_error((folder / file) + ": " + message + (folder / file), [&] { load_corpus(folder / file); });
    };
    refuse("a.xz", std::string("\xFD\x37zXZ\0....", 10),
           "compressed by xz, not text; unpack it first: xz -dk ");
    refuse("a.bz2", "BZh91AY", "compressed by bzip2, not text; unpack it first: bunzip2 -k ");
    write(folder / "a.zip", "PK\x03\x04....");
    check_error((folder / "a.zip") + ": a zip archive, not text; unpack it first: unzip " +
                    (folder / "a.zip") + " -d FOLDER",
                [&] { load_corpus(folder / "a.zip"); });
    write(folder / "a.parquet", "PAR1....");
    check_error((folder / "a.parquet") +
                    ": a Parquet table, not text; unpack it first: python3 -c \"import pandas; "
                    "pandas.read_parquet('" +
                    (folder / "a.parquet") + "').to_json('FILE.jsonl', orient='records', lines=True)\"",
                [&] { load_corpus(folder / "a.parquet"); });
    write(folder / "wide.txt", std::string("\xFF\xFE"
                                           "a\0b\0",
                                           6));
    check_error((folder / "wide.txt") + ": UTF-16, want UTF-8: iconv -f UTF-16 -t UTF-8 " +
                    (folder / "wide.txt") + " > FILE",
                [&] { load_corpus(folder / "wide.txt"); });
}

TEST_CASE("corpus: bytes that are not UTF-8 are kept, and said once with the first place") {
    const TemporaryFolder folder;
    std::string latin;
    for (int i = 0; i < 50; ++i) latin += "ein sch\xF6ner Tag in K\xF6ln\n";
    write(folder / "a.txt", "plain");
    write(folder / "b.txt", latin);
    write(folder / "c.txt", latin);
    const Loaded loaded = load(folder.path());
    CHECK(texts_of(loaded.corpus) == Texts{"plain", latin, latin});
    CHECK(loaded.notes ==
          Texts{(folder / "b.txt") + ": byte 7 is not UTF-8, nor are 199 more of the text; kept as it is"});
    write(folder / "one.md", std::string(100, 'a') + "\xC3");
    CHECK(load(folder / "one.md").notes ==
          Texts{(folder / "one.md") + ": byte 100 is not UTF-8; kept as it is"});
}

TEST_CASE("corpus: a binary file is judged by its first block, a NUL further on by its place") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.txt";
    std::ofstream(path) << "";
    fs::resize_file(path, int64_t{1} << 40);  // sparse: nobody could read it whole
    check_error(path + ": binary, not text: byte 0 is NUL; want UTF-8", [&] { load_corpus(path); });
    write(path, std::string(3000000, 'a') + '\0');
    check_error(path + ": binary, not text: byte 3000000 is NUL; want UTF-8", [&] { load_corpus(path); });
    write(path, std::string(2000000, '\xFF'));
    check_error(path + ": binary, not text: 1048576 of 1048576 first bytes are not UTF-8",
                [&] { load_corpus(path); });
}

TEST_CASE("corpus: reading reports how far it has come") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.txt";
    write(path, std::string(3 << 20, 'a') + "b");
    std::vector<int64_t> done;
    load_corpus(path, {}, DataLog({}, [&](const std::string& what, int64_t bytes, int64_t total, DataUnit) {
                    CHECK(what == (done.size() < 4 ? "reading " : "hashing ") + path);
                    CHECK(total == (3 << 20) + 1);
                    done.push_back(bytes);
                }));
    CHECK(done == std::vector<int64_t>{1 << 20, 2 << 20, 3 << 20, (3 << 20) + 1, (3 << 20) + 1});
}

TEST_CASE("token array: every id is one of the vocabulary, or named with its place") {
    const TemporaryFolder folder;
    const std::string path = folder / "t.npy";
    write_npy(path, Tensor::from(std::vector<int64_t>{0, 1, 2, 3, 4, 299}, {2, 3}));
    const Tensor tokens = read_token_array(path, 300);
    CHECK(tokens.dtype() == DType::int32);
    CHECK(tokens.to_vector<int32_t>() == std::vector<int32_t>{0, 1, 2, 3, 4, 299});
    check_error(path + ": token [1,2] is 299, want 0 to 298: the vocabulary has 299",
                [&] { read_token_array(path, 299); });
    write_npy(path, Tensor::from(std::vector<int64_t>{1, 4294967301}, {1, 2}));  // 5, were it cut to 32 bits
    check_error(path + ": token [0,1] is 4294967301, want 0 to 299: the vocabulary has 300",
                [&] { read_token_array(path, 300); });
    write_npy(path, Tensor::from(std::vector<int32_t>{1, -1}, {2, 1}));
    check_error(path + ": token [1,0] is -1, want 0 to 299: the vocabulary has 300",
                [&] { read_token_array(path, 300); });
    write_npy(path, Tensor::from(std::vector<float>{1, 1.5}, {1, 2}));
    check_error(path + ": its elements are '<f4' (floats), want whole numbers",
                [&] { read_token_array(path, 300); });
    write_npy(path, Tensor::from(std::vector<uint8_t>{1, 0}, {1, 2}), NpyBool::yes);
    check_error(path + ": its elements are '|b1' (truth values), want whole numbers",
                [&] { read_token_array(path, 300); });
    write_npy(path, Tensor::from(std::vector<int32_t>{1, 2}, {2}));
    check_error(path + ": shape [2], want [B,T]", [&] { read_token_array(path, 300); });
}
