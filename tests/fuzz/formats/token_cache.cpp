// The cache of an encoded corpus. Whatever stands in it, the tokens are those of the corpus.
#include "framework/data/token_cache.h"

#include <algorithm>
#include <filesystem>

#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

constexpr const char* text = "the cat and the hat and the bat sat on the mat";

struct Cache {
    TextSplit split{.train = {{.text = text, .ends_document = false}, {.text = "the end"}},
                    .validation = {{.text = "on the mat"}}};
    Tokenizer tokenizer = Tokenizer::train(text, 270);
    EncodedText tokens = load("");
    std::string folder = scratch_folder() + "/cache", file;

    Cache() {
        load(folder);
        for (const auto& entry : std::filesystem::directory_iterator(folder)) file = entry.path().filename();
    }
    EncodedText load(const std::string& from) const {
        return cached_tokens(from, {.split = split, .tokenizer = tokenizer, .name = "text"}, {});
    }
};

const Cache& cache() {
    static const Cache made;
    return made;
}

std::vector<std::string> samples() {
    cache().load(cache().folder);
    return {bytes_of_file(cache().folder + "/" + cache().file)};
}

void read(const std::string& input) {
    scratch_file("cache/" + cache().file, input);
    const EncodedText read = cache().load(cache().folder), &want = cache().tokens;
    const std::span<const int32_t> tokens = read.tokens->tokens(), made = want.tokens->tokens();
    const bool same = std::equal(tokens.begin(), tokens.end(), made.begin(), made.end()) &&
                      read.train_ends == want.train_ends && read.held_out_ends == want.held_out_ends;
    expect(same, "the cache gave other tokens than the corpus has");
}

const RegisteredFormat registered({"token_cache", samples, read});

}  // namespace
}  // namespace sieve::fuzz
