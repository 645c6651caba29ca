// The fixtures were written by the Hugging Face `tokenizers` package: tests/data/fixtures/make_fixtures.py.
#include "framework/data/tokenizer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
using nlohmann::ordered_json;

namespace {

const std::string fixtures = testing::source_dir() + "/tests/data/fixtures/";

const std::string& excerpt() {
    static const std::string text = read_file(testing::source_dir() + "/data/excerpt/persuasion.txt");
    return text;
}

const Tokenizer& trained() {
    static const Tokenizer tokenizer = Tokenizer::train(excerpt(), 640);
    return tokenizer;
}

uint32_t checksum(const std::vector<int32_t>& ids) {
    uint32_t total = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
        total += static_cast<uint32_t>(i + 1) * static_cast<uint32_t>(ids[i] + 1);
    }
    return total;
}

std::vector<std::string> words_of(const std::string& text) {
    std::vector<std::string> words;
    for (size_t at = 0; at < text.size();) {
        const size_t end = word_end(text, at);
        words.push_back(text.substr(at, end - at));
        at = end;
    }
    return words;
}

// A small valid file to break: the 256 bytes, "he" and <|endoftext|>.
ordered_json small_file() {
    return ordered_json::parse(Tokenizer::train("the the the the", 258).to_json());
}

void check_refused(const ordered_json& document, const std::string& message) {
    check_error("x.json: " + message, [&] { Tokenizer::from_json(document.dump(), "x.json"); });
}

}  // namespace

TEST_CASE("tokenizer: encodes as Hugging Face does, sample by sample and over the excerpt") {
    const ordered_json expected = read_json(fixtures + "expected_ids.json");
    for (const char* name : {"plain", "smol", "prefixed"}) {
        CAPTURE(name);
        const Tokenizer tokenizer = Tokenizer::load(fixtures + "tokenizer_" + name + ".json");
        const ordered_json& want = expected[name];
        for (const auto& sample : want["samples"]) {
            const std::string text = sample[0];
            CAPTURE(text);
            CHECK(tokenizer.encode(text) == sample[1].get<std::vector<int32_t>>());
        }
        const std::vector<int32_t> ids = tokenizer.encode(excerpt());
        CHECK(ids.size() == want["excerpt_tokens"]);
        CHECK(checksum(ids) == want["excerpt_checksum"]);
    }
}

TEST_CASE("tokenizer: training learns what Hugging Face's trainer learns, merge by merge") {
    const Tokenizer theirs = Tokenizer::load(fixtures + "tokenizer_plain.json");
    REQUIRE(trained().vocab_size() == 640);
    REQUIRE(theirs.vocab_size() == 640);
    const auto ours = trained().merges();
    for (size_t i = 0; i < ours.size(); ++i) {
        CAPTURE(i);
        CHECK(ours[i] == theirs.merges()[i]);
    }
    for (int id = 0; id < 640; ++id) CHECK(trained().token_bytes(id) == theirs.token_bytes(id));
    CHECK(trained().hash() == theirs.hash());
}

TEST_CASE(
    "tokenizer: training follows the counts: ties by the lower ids, runs of one letter, rare pairs left") {
    // Both pairs of "ab" x 3 and "cd" x 3 occur as often; a < c.
    const Tokenizer tie = Tokenizer::train("cd ab\ncd ab\ncd ab", 258);
    CHECK(tie.token_bytes(257) == "ab");
    const Tokenizer runs = Tokenizer::train("aaaaaaaa aaaaaaaa", 1000);
    CHECK(runs.token_bytes(257) == "aa");
    CHECK(runs.token_bytes(258) == "aaaa");
    CHECK(Tokenizer::train("abcdefgh", 1000).vocab_size() == 257);  // every pair occurs once
    CHECK(Tokenizer::train("", 1000).vocab_size() == 257);
    // Two texts are counted together, and no pair spans their border.
    const std::string_view texts[] = {"xy", "xy", "z"};
    const Tokenizer several = Tokenizer::train(texts, 300);
    CHECK(several.vocab_size() == 258);
    CHECK(several.token_bytes(257) == "xy");
    check_error("vocab_size: 256; want at least 257, one token a byte and <|endoftext|>",
                [] { Tokenizer::train("abc", 256); });
}

TEST_CASE("tokenizer: training is deterministic and reports its progress") {
    std::vector<std::string> reports;
    const Tokenizer again =
        Tokenizer::train(excerpt(), 640, [&](const char* what, int64_t done, int64_t total) {
            reports.push_back(std::string(what) + " " + std::to_string(done) + "/" + std::to_string(total));
        });
    CHECK(again.hash() == trained().hash());
    CHECK(again.to_json() == trained().to_json());
    const std::string bytes = std::to_string(excerpt().size());
    CHECK(reports == std::vector<std::string>{"counting the words " + bytes + "/" + bytes,
                                              "making the tokens 320/640", "making the tokens 384/640",
                                              "making the tokens 448/640", "making the tokens 512/640",
                                              "making the tokens 576/640", "making the tokens 640/640",
                                              "making the tokens 640/640"});
}

TEST_CASE("tokenizer: decode(encode(text)) is the text, byte for byte") {
    std::string all_bytes, scrambled;
    for (int b = 0; b < 256; ++b) all_bytes += static_cast<char>(b);
    for (uint64_t i = 0; i < 2000; ++i) scrambled += static_cast<char>(philox({3, 0}, i).v[0]);
    const Tokenizer& t = trained();
    for (const std::string& text : {std::string(), all_bytes, scrambled, excerpt(), std::string("\xC3"),
                                    std::string("caf\u00e9 \u05e9\u05dc\u05d5\u05dd \U0001F600 \xF0\x9F"),
                                    std::string("a<|endoftext|>b<|endoftext|>")}) {
        CHECK(t.decode(t.encode(text)) == text);
    }
    CHECK(t.encode("").empty());
    CHECK(t.encode("<|endoftext|>") == std::vector<int32_t>{0});
    CHECK(t.added_token_id("<|endoftext|>") == 0);
    CHECK(t.added_token_id("<|im_start|>") == -1);
}

TEST_CASE("tokenizer: an encoder stops at its limit with the same first tokens") {
    const std::string text = excerpt().substr(0, 3000) + "<|endoftext|>" + excerpt().substr(3000, 500);
    const std::vector<int32_t> all = trained().encode(text);
    for (const size_t limit :
         {size_t{1}, size_t{2}, size_t{17}, all.size() - 1, all.size(), all.size() + 5}) {
        std::vector<int32_t> some{-7};
        Tokenizer::Encoder(trained()).append(text, some, static_cast<int64_t>(limit));
        const size_t kept = std::min(limit, all.size());
        REQUIRE(some.size() == kept + 1);
        CHECK(std::equal(all.begin(), all.begin() + static_cast<int64_t>(kept), some.begin() + 1));
    }
}

TEST_CASE("tokenizer: one endless word takes no quadratic time") {
    const std::string text(300000, 'e');
    CHECK(trained().decode(trained().encode(text)) == text);
}

TEST_CASE("tokenizer: save and load keep everything") {
    const TemporaryFolder folder;
    for (const char* name : {"plain", "smol", "prefixed"}) {
        const Tokenizer before = Tokenizer::load(fixtures + "tokenizer_" + name + ".json");
        before.save(folder / "tokenizer.json");
        const Tokenizer after = Tokenizer::load(folder / "tokenizer.json");
        CHECK(after.hash() == before.hash());
        CHECK(after.encode(" hello 12<|im_end|>x") == before.encode(" hello 12<|im_end|>x"));
    }
}

TEST_CASE("tokenizer: token_text is readable") {
    const Tokenizer& t = trained();
    const auto text_of = [&](std::string_view bytes) { return t.token_text(t.encode(bytes)[0]); };
    CHECK(text_of(" the") == "\u00B7the");
    CHECK(text_of("\n") == "\\n");
    CHECK(text_of("\t") == "\\t");
    CHECK(text_of("\x01") == "\\x01");
    CHECK(text_of("\xE2") == "\\xE2");
    CHECK(t.token_text(0) == "<|endoftext|>");
    check_error("tokenizer: there is no token 640; ids go from 0 to 639", [&] { t.token_text(640); });
    check_error("tokenizer: there is no token -1; ids go from 0 to 639", [&] {
        t.decode(std::vector<int32_t>{1, -1});
    });
}

TEST_CASE("pretokenizer: words of the GPT-2 expression") {
    using Words = std::vector<std::string>;
    CHECK(words_of("Hello, it's  7am") == Words{"Hello", ",", " it", "'s", " ", " 7", "am"});
    CHECK(words_of("a\n\nb \n") == Words{"a", "\n", "\n", "b", " \n"});
    CHECK(words_of("\u00e9t\u00e9\u2014\u0664") == Words{"\u00e9t\u00e9", "\u2014", "\u0664"});
    CHECK(words_of("\xFF\xC3 a") == Words{"\xFF\xC3", " a"});  // stray bytes
}

TEST_CASE("unicode: well-formed UTF-8 only") {
    CHECK(count_invalid_utf8("abc \u00e9 \u20ac \U0001F600") == 0);
    CHECK(count_invalid_utf8("\xC0\xAF") == 2);          // overlong
    CHECK(count_invalid_utf8("\xED\xA0\x80") == 3);      // a surrogate
    CHECK(count_invalid_utf8("\xF4\x90\x80\x80") == 4);  // past U+10FFFF
    CHECK(count_invalid_utf8("\xE2\x82") == 2);          // cut off
    CHECK(class_of('a') == CharClass::letter);
    CHECK(class_of(0x2167) == CharClass::number);
    CHECK(class_of(0x3000) == CharClass::space);
    CHECK(class_of(0x0301) == CharClass::other);  // a combining mark is no letter
    CHECK(class_of(0x10FFFF) == CharClass::other);
}

TEST_CASE("tokenizer: what is not supported is refused by name") {
    const auto changed = [](auto&& change) {
        ordered_json document = small_file();
        change(document);
        return document;
    };
    CHECK(Tokenizer::from_json(small_file().dump(), "x").vocab_size() == 258);
    check_refused(changed([](auto& d) {
                      d["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFD"}}}}};
                  }),
                  "the normalizer NFD is not supported; only NFC and NFKC are, alone or in a Sequence");
    check_refused(changed([](auto& d) { d["model"]["type"] = "WordPiece"; }),
                  "the model WordPiece is not supported; only BPE is");
    check_refused(
        changed([](auto& d) {
            d["pre_tokenizer"] = {{"type", "Metaspace"}};
        }),
        "the pre-tokenizer Metaspace is not supported; want ByteLevel, alone or the last of a Sequence");
    const auto before_byte_level = [&](const ordered_json& step) {
        return changed([&](auto& d) {
            const ordered_json byte_level = d["pre_tokenizer"];
            d["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {step, byte_level}}};
        });
    };
    check_refused(
        before_byte_level({{"type", "Punctuation"}, {"behavior", "Isolated"}}),
        "the pre-tokenizer Punctuation is not supported; only Split and Digits are, in a Sequence that "
        "ends with ByteLevel");
    const auto split = [](const char* pattern, const char* behavior) {
        return ordered_json{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", behavior}};
    };
    check_refused(before_byte_level(split("a", "Joined")), "the behavior \"Joined\" of a Split is unknown");
    check_refused(before_byte_level(split("(a", "Isolated")),
                  "Split: the pattern \"(a\": end pattern with unmatched parenthesis");
    check_refused(before_byte_level(split("\\p{Klingon}", "Isolated")),
                  "Split: the pattern \"\\\\p{Klingon}\": invalid character property name {Klingon}");
    check_refused(changed([](auto& d) { d["pre_tokenizer"] = nullptr; }),
                  "it has no pre-tokenizer; want ByteLevel");
    check_refused(changed([](auto& d) {
                      d["decoder"] = {{"type", "Metaspace"}};
                  }),
                  "the decoder Metaspace is not supported; only ByteLevel is");
    check_refused(changed([](auto& d) { d["model"]["dropout"] = 0.1; }), "\"dropout\": 0.1 is not supported");
    check_refused(changed([](auto& d) { d["model"]["byte_fallback"] = true; }),
                  "\"byte_fallback\": true is not supported");
    check_refused(changed([](auto& d) { d["model"]["end_of_word_suffix"] = "</w>"; }),
                  "\"end_of_word_suffix\": \"</w>\" is not supported");
    check_refused(
        changed([](auto& d) {
            d["normalizer"] = {{"type", "NFKC"}};
            for (const char* content : {"\ufb01", "fi"})
                d["added_tokens"].push_back({{"id", 0}, {"content", content}, {"normalized", true}});
        }),
        "the added token \"fi\" is the same as another one once it is normalized: \"fi\"");
}

TEST_CASE("tokenizer: damaged files are told apart") {
    const auto changed = [](auto&& change) {
        ordered_json document = small_file();
        change(document);
        return document;
    };
    check_refused(ordered_json::array(), "not a tokenizer.json: it has no \"model\"");
    check_refused(changed([](auto& d) { d["model"]["vocab"]["zz"] = 300; }),
                  "no token has the id 258, though ids go up to 300");
    check_refused(changed([](auto& d) { d["model"]["vocab"]["zz"] = 5; }),
                  "token \"zz\" has the id 5, which another token has too");
    check_refused(changed([](auto& d) { d["model"]["vocab"]["zz"] = -1; }),
                  "token \"zz\" has the id -1, want 0 to 16777215");
    check_refused(changed([](auto& d) { d["model"]["merges"].push_back("t q"); }),
                  "merge 1 (\"t\" \"q\"): \"tq\" is not in the vocabulary");
    check_refused(changed([](auto& d) { d["model"]["merges"].push_back(7); }),
                  "merge 1: 7 is neither \"a b\" nor [\"a\", \"b\"]");
    check_refused(changed([](auto& d) { d["model"]["vocab"]["\u4e2d"] = 258; }),
                  "token \"\u4e2d\" is not in the byte-level alphabet");
    CHECK_THROWS_AS(Tokenizer::from_json("{\"model\":", "x.json"), Error);
    CHECK_THROWS_AS(Tokenizer::from_json(R"({"model":{"type":7}})", "x.json"), Error);
    CHECK_THROWS_AS(Tokenizer::load("/no/such/tokenizer.json"), Error);
}

TEST_CASE("tokenizer: a vocabulary without some byte says so when it meets the byte") {
    ordered_json document = small_file();
    ordered_json& vocabulary = document["model"]["vocab"];
    REQUIRE(vocabulary["he"] == 257);
    vocabulary["he"] = vocabulary["~"];  // so that no id is missing
    vocabulary.erase("~");
    const Tokenizer tokenizer = Tokenizer::from_json(document.dump(), "x.json");
    CHECK(tokenizer.encode("the").size() == 2);
    check_error("tokenizer: its vocabulary has no token for the byte 0x7E", [&] { tokenizer.encode("a~"); });
    // With an unknown token it is that one.
    document["model"]["unk_token"] = "<|endoftext|>";
    CHECK(Tokenizer::from_json(document.dump(), "x.json").encode("~")[0] == 0);
    document["model"]["fuse_unk"] = true;
    check_refused(document, "\"fuse_unk\": true is not supported");
}
