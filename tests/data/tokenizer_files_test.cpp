// Tokenizers with pre-tokenizer patterns, normalizers and added tokens against the `tokenizers` package: by the
// ids that it gave for small changed files (tests/data/fixtures/make_fixtures.py), and, where it and packages
// with real files are installed, string by string (tests/data/check_tokenizers.py).
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "framework/core/error.h"
#include "framework/data/normalizer.h"
#include "framework/data/regex.h"
#include "framework/data/tokenizer.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
using nlohmann::ordered_json;

namespace {

const std::string fixtures = testing::source_dir() + "/tests/data/fixtures/";
const std::string checker = testing::source_dir() + "/tests/data/check_tokenizers.py";

Tokenizer changed(const ordered_json& change) {
    ordered_json document = read_json(fixtures + "tokenizer_plain.json");
    document.merge_patch(change);
    return Tokenizer::from_json(document.dump(), "changed.json");
}

Tokenizer with_split(const std::string& pattern) {
    const ordered_json split{
        {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
    const ordered_json bytes{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    return changed({{"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}}}});
}

std::vector<std::string> pieces_of(const std::string& pattern, const std::string& text) {
    const Regex regex(pattern);
    std::vector<std::string> pieces;
    Regex::Matches matches(regex, text);
    while (const auto match = matches.next())
        pieces.push_back(text.substr(match->begin, match->end - match->begin));
    return pieces;
}

std::string character(uint32_t code) {
    std::string text;
    if (code < 0x80) return {static_cast<char>(code)};
    if (code < 0x800) {
        text += static_cast<char>(0xC0 | code >> 6);
    } else {
        if (code < 0x10000) {
            text += static_cast<char>(0xE0 | code >> 12);
        } else {
            text += static_cast<char>(0xF0 | code >> 18);
            text += static_cast<char>(0x80 | (code >> 12 & 0x3F));
        }
        text += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    }
    return text += static_cast<char>(0x80 | (code & 0x3F));
}

// A text of words, spaces, signs and any other characters.
std::string random_text(uint64_t seed, int characters) {
    std::string text;
    for (int i = 0; i < characters; ++i) {
        const Philox4 numbers = philox({seed, 0}, static_cast<uint64_t>(i));
        const uint32_t* random = numbers.v;
        constexpr std::string_view common = "aenst  \n\t'.,12\xC3\xA9";
        uint32_t code = random[1] % 0x110000;
        if (code >= 0xD800 && code < 0xE000) code -= 0x1000;
        if (random[0] % 4 == 0)
            text += character(random[0] % 8 == 0 ? code : code % 0x3100);
        else if (const size_t at = random[1] % common.size(); at + 2 < common.size())
            text += common[at];
        else
            text += "\u00e9";
    }
    return text;
}

std::string run(const std::string& command) {
    std::string output;
    const int status = run_command(command, output);
    CAPTURE(output);
    CHECK(status == 0);
    return output;
}

}  // namespace

TEST_CASE("tokenizer files: Splits, normalizers and added tokens give the ids of Hugging Face") {
    for (const ordered_json& wanted : read_json(fixtures + "expected_cases.json")) {
        const std::string name = wanted["name"];
        CAPTURE(name);
        const Tokenizer tokenizer = changed(wanted["change"]);
        const Tokenizer again = Tokenizer::from_json(tokenizer.to_json(), "again.json");
        CHECK(again.hash() == tokenizer.hash());
        CHECK(again.to_json() == tokenizer.to_json());
        for (const ordered_json& sample : wanted["samples"]) {
            const std::string text = sample[0];
            CAPTURE(text);
            const auto ids = sample[1].get<std::vector<int32_t>>();
            CHECK(tokenizer.encode(text) == ids);
            CHECK(again.encode(text) == ids);
            std::vector<int32_t> first;
            Tokenizer::Encoder(tokenizer).append(text, first, 3);
            CHECK(first ==
                  std::vector<int32_t>(ids.begin(), ids.begin() + std::min<int64_t>(3, std::ssize(ids))));
        }
    }
}

TEST_CASE("tokenizer files: everything that decides how text is encoded is in the hash") {
    std::vector<uint64_t> hashes{changed(ordered_json::object()).hash()};
    for (const ordered_json& wanted : read_json(fixtures + "expected_cases.json"))
        hashes.push_back(changed(wanted["change"]).hash());
    for (const char* rule : {"special", "normalized", "single_word", "lstrip", "rstrip"})
        hashes.push_back(changed({{"added_tokens", {{{"id", 640}, {"content", "x"}, {rule, true}}}}}).hash());
    std::sort(hashes.begin(), hashes.end());
    // `special` decides nothing, nor does a Sequence around the same steps.
    CHECK(std::adjacent_find(hashes.begin(), hashes.end()) == hashes.end());
}

TEST_CASE("tokenizer files: added tokens are numbered as Hugging Face numbers them, with a note") {
    const Tokenizer tokenizer = changed({{"added_tokens",
                                          {{{"id", 0}, {"content", "<|endoftext|>"}, {"special", true}},
                                           {{"id", 700}, {"content", "<a>"}},
                                           {{"id", 641}, {"content", "<b>"}},
                                           {{"id", 5}, {"content", "<c>"}}}}});
    CHECK(tokenizer.vocab_size() == 643);
    CHECK(tokenizer.added_token_id("<a>") == 640);
    CHECK(tokenizer.added_token_id("<c>") == 642);
    CHECK(tokenizer.encode("<c><a>") == std::vector<int32_t>{642, 640});
    CHECK(tokenizer.decode(std::vector<int32_t>{640, 641}) == "<a><b>");
    REQUIRE(tokenizer.notes().size() == 1);
    CHECK(
        tokenizer.notes()[0] ==
        "changed.json: 2 of its added tokens get other ids than it says, the first \"<a>\" the id 640: added "
        "tokens get the id that the model's vocabulary has for them, or the next one behind all others, as "
        "the "
        "tokenizers package does");
    CHECK(changed(ordered_json::object()).notes().empty());
}

TEST_CASE("tokenizer files: bytes that are not UTF-8 are pieces on their own and lose nothing") {
    const Tokenizer tokenizer = with_split("\\p{L}+|(?<=.)x");
    for (const std::string text :
         {"\xFF", "ab\xC3", "\xE2\x82 a\xF0\x9F", "a\xFF\xFE\xFDz", "\xF4\x90\x80\x80", "\xED\xA0\x80x"})
        CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
    const Tokenizer normalizing = changed({{"normalizer", {{"type", "NFC"}}}});
    CHECK(normalizing.decode(normalizing.encode("e\xCC\x81\xFF\xCC\x81 e\xFF")) ==
          "\u00e9\xFF\xCC\x81 e\xFF");
}

TEST_CASE("regex: the expression of ByteLevel, which is written by hand, is Oniguruma's") {
    const Regex regex("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+");
    std::string every;  // each character between two letters, digits, spaces and signs
    for (uint32_t code = 0; code <= 0x10FFFF; ++code)
        if (code < 0xD800 || code >= 0xE000) every += "a" + character(code) + "1" + character(code) + " .";
    std::string text = read_file(testing::source_dir() + "/data/excerpt/persuasion.txt");
    for (const std::string& sample : {text, every, random_text(1, 20000)}) {
        Regex::Matches matches(regex, sample);
        size_t at = 0, differences = 0;
        while (const auto match = matches.next()) {
            differences += match->begin != at || match->end != word_end(sample, at);
            at = match->end;
        }
        CHECK(differences == 0);
        CHECK(at == sample.size());
    }
}

TEST_CASE("regex: categories are those of Unicode 16.0, and \\p{...} of one class skips nothing") {
    CHECK(pieces_of("\\p{L}", "\U0001E5D0\U0002EBF0\U00010D69") ==
          std::vector<std::string>{"\U0001E5D0", "\U0002EBF0"});
    CHECK(pieces_of("\\p{Han}", "a\U0002EBF0\u4e00") == std::vector<std::string>{"\U0002EBF0", "\u4e00"});
    using Pieces = std::vector<std::string>;
    CHECK(pieces_of("\\p{N}{1,3}", "a12345b\u06648x9") == Pieces{"123", "45", "\u06648", "9"});
    CHECK(pieces_of("[a-c\\]x]+", "zzab]yx") == Pieces{"ab]", "x"});
    CHECK(pieces_of("[^a]+", "aab\u00e9a") == Pieces{"b\u00e9"});
    CHECK(pieces_of("[a]{0,2}", "ba") == Pieces{"", "a"});
    CHECK(pieces_of("x*", "axb") == Pieces{"", "x", ""});
    CHECK(pieces_of("", "ab") == Pieces{"", "", ""});
    CHECK(pieces_of("\\p{N}+", "").empty());
}

TEST_CASE("regex: an expression that takes exponential time is stopped") {
    const Tokenizer tokenizer = with_split("(a|aa)+$");
    CHECK(tokenizer.encode("aaaa b aa").size() > 2);
    check_error(
        "tokenizer: the pattern \"(a|aa)+$\" on 61 bytes of text: retry-limit-in-match over; it takes too "
        "many steps",
        [&] { tokenizer.encode(std::string(60, 'a') + "b"); });
    check_error("the pattern \"" + std::string(80, 'a') + "... (70000 bytes)\" has more than 65536 bytes",
                [] { Regex(std::string(70000, 'a')); });
    // But not one on a long run.
    CHECK(with_split("\\s+(?!\\S)|\\s+|\\p{L}+")
              .encode(std::string(300000, ' ') + std::string(300000, 'e'))
              .size() > 2);
}

TEST_CASE("normalizer: composes and decomposes as Unicode 9.0 does") {
    CHECK(!normalized("plain", NormalizationForm::nfc));
    CHECK(!normalized("\u00e9\u4e00", NormalizationForm::nfkc));
    CHECK(normalized("xe\u0301\u00c5", NormalizationForm::nfc) == "x\u00e9\u00c5");
    CHECK(normalized("\u1100\u1161\u11a8", NormalizationForm::nfc) == "\uac01");
    CHECK(normalized("a\u0301\u0316", NormalizationForm::nfc) == "\u00e1\u0316");
    CHECK(!normalized("\ufb01", NormalizationForm::nfc));
    CHECK(normalized("\ufb01 \u33a2", NormalizationForm::nfkc) == "fi km2");
    CHECK(!normalized("\u32ff \u0897\u0301", NormalizationForm::nfkc));  // of Unicode 12.1 and 16.0
}

TEST_CASE(
    "tokenizer files: real files give the ids of the tokenizers package on 2500 strings each, saved too") {
    const auto python = python_with("tokenizers");
    if (!python) return skip("no Python with the tokenizers package");
    std::istringstream paths(run(*python + " " + checker + " find"));
    int files = 0;
    for (std::string path; std::getline(paths, path); ++files) {
        CAPTURE(path);
        const TemporaryFolder folder;
        const std::string texts = folder / "texts.json", saved = folder / "saved.json";
        run(fmt::format("{} {} encode {} {}", *python, checker, path, texts));
        const Tokenizer tokenizer = Tokenizer::load(path);
        const ordered_json wanted = read_json(texts);
        CHECK(wanted.size() >= 2000);
        for (const ordered_json& sample : wanted) {
            const std::string text = sample[0];
            CAPTURE(text);
            CHECK(tokenizer.encode(text) == sample[1].get<std::vector<int32_t>>());
        }
        tokenizer.save(saved);
        CHECK(Tokenizer::load(saved).hash() == tokenizer.hash());
        run(fmt::format("{} {} check {} {}", *python, checker, saved, texts));
    }
    if (files == 0) skip("no package with a tokenizer.json");
}
