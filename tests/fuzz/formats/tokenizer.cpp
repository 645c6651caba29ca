// tokenizer.json. A tokenizer that is read encodes, decodes, and survives being written.
#include "framework/data/tokenizer.h"

#include <fmt/format.h>

#include "framework/core/error.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::vector<std::string> samples() {
    return {Tokenizer::train("the cat and the hat and the bat sat on the mat", 270).to_json()};
}

void read(const std::string& input) {
    const Tokenizer tokenizer = Tokenizer::from_json(input, "tokenizer.json");
    if (input.size() < 1 << 16)  // what reading alone takes is measured of larger ones
        expect(Tokenizer::from_json(tokenizer.to_json(), "again").hash() == tokenizer.hash(),
               "a tokenizer changed when it was written and read again");
    tokenizer.decode(tokenizer.encode("the cat's <|endoftext|>\n  12345 \xE2\x82\xAC\xFF"));
}

// A tokenizer.json with this in its model and at its top.
std::string with(const std::string& vocabulary, const std::string& merges, const std::string& added = "[]") {
    return R"({"added_tokens": )" + added +
           R"(, "pre_tokenizer": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": )" + vocabulary +
           R"(, "merges": )" + merges + "}}";
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
            with("{\"a\": " + repeated("[", 60) + repeated("]", 60) + "}", "[]")};
}

const RegisteredFormat registered({"tokenizer", samples, read, attacks});

}  // namespace
}  // namespace sieve::fuzz
