// tokenizer.json. A tokenizer that is read encodes, decodes, and survives being written.
#include "framework/data/tokenizer.h"

#include <fmt/format.h>

#include "framework/core/error.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

// A tokenizer.json with this in its model and at its top.
std::string with(const std::string& vocabulary, const std::string& merges, const std::string& added = "[]",
                 const std::string& steps = "") {
    return R"({"added_tokens": )" + added + R"(, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [)" +
           steps + R"({"type": "ByteLevel"}]}, "model": {"type": "BPE", "vocab": )" + vocabulary +
           R"(, "merges": )" + merges + "}}";
}

std::string split(const std::string& pattern, const std::string& behavior = "Isolated") {
    return R"({"type": "Split", "pattern": {"Regex": ")" + pattern + R"("}, "behavior": ")" + behavior +
           R"(", "invert": false}, )";
}

std::vector<std::string> samples() {
    const std::string trained =
        Tokenizer::train("the cat and the hat and the bat sat on the mat", 270).to_json();
    std::string steps = split("(?i:'s|'t)|[^\\\\r\\\\n\\\\p{L}]?\\\\p{L}+|\\\\s+(?!\\\\S)|\\\\s+") +
                        split("\\\\p{N}{1,3}", "MergedWithNext") +
                        split("x*|(?<=a)b|(c)\\\\1", "Contiguous") +
                        R"({"type": "Digits", "individual_digits": true}, )";
    const std::string added =
        R"([{"id": 1, "content": "<r>", "rstrip": true, "lstrip": true}, {"id": 2, "content": "the", "single_word": true,
            "normalized": true}])";
    std::string several = with(R"({"a": 0, "t": 1, "h": 2, "th": 3})", R"([["t", "h"]])", added, steps);
    several.insert(several.find("\"vocab\""), R"("unk_token": "a", )");
    several.insert(
        1, R"("normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKC"}]}, )");
    return {trained, several};
}

void read(const std::string& input) {
    const Tokenizer tokenizer = Tokenizer::from_json(input, "tokenizer.json");
    if (input.size() < 1 << 16)  // what reading alone takes is measured of larger ones
        expect(Tokenizer::from_json(tokenizer.to_json(), "again").hash() == tokenizer.hash(),
               "a tokenizer changed when it was written and read again");
    tokenizer.decode(tokenizer.encode("the cat's <|endoftext|>\n  12345 \xE2\x82\xAC\xFF"));
}

std::vector<std::string> attacks() {
    constexpr int many = 100'000;
    std::string tokens = "{\"a\": 0", added = "[", merges = "[";
    for (int i = 1; i < many; ++i) {
        tokens += fmt::format(", \"{:06d}\": {}", i, i);
        added += fmt::format("{}{{\"id\": {}, \"content\": \"a{:06d}\"}}", i > 1 ? ", " : "", i - 1, i);
        merges += "\"a a\", ";
    }
    return {with(R"({"a": 16777215})", "[]"),
            with("{}", "[]", R"([{"id": 16777215, "content": "x"}])"),
            with(tokens + "}", "[]"),
            with(tokens + "}", merges + "\"a a\"]"),
            with(R"({"a": 0, "aa": 1})", merges + "\"a a\"]"),
            with("{}", "[]", added + "]"),
            with(tokens + "}", "[]", added + "]"),
            with("{\"" + std::string(many, 'x') + "\": 0}", "[[" + repeated("\"a\",", many) + "0]]"),
            with("{\"a\": " + repeated("[", 60) + repeated("]", 60) + "}", "[]"),
            with(tokens + "}", "[]", "[]", split("(a|aa|[^a])+$") + split("(.+)+x") + split("((.*)*)*y")),
            with("{}", "[]", "[]", split("(?:(?:(?:a{1,1000}){1,1000}){1,1000}){1,1000}")),
            with("{}", "[]", "[]", split(repeated("(", 3000) + repeated(")*", 3000))),
            with("{}", "[]", "[]", split(repeated("[\\\\p{L}&&", 1000) + "a" + repeated("]", 1000))),
            with("{}", "[]", "[]", split("(?<a>\\\\g<b>x|\\\\g<b>)(?<b>\\\\g<a>y|.)")),
            with("{}", "[]", "[]", repeated(split("\\\\p{L}"), 500)),
            with("{}", "[]", "[]", split("(?i)" + repeated("\\u00df", 5000)))};
}

const RegisteredFormat registered({"tokenizer", samples, read, attacks});

}  // namespace
}  // namespace sieve::fuzz
