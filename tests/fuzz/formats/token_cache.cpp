// The cache of an encoded corpus. Whatever stands in it, the tokens are those of the corpus.
#include "framework/data/token_cache.h"

#include <filesystem>

#include "framework/data/corpus.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

constexpr const char* text = "the cat and the hat and the bat sat on the mat";

struct Cache {
    Corpus corpus{.name = "text", .documents = {text, "the end"}};
    Tokenizer tokenizer = Tokenizer::train(text, 270);
    std::vector<int32_t> tokens = encode_corpus(corpus, tokenizer, 0);
    std::string folder = scratch_folder() + "/cache", file;

    Cache() {
        load();
        for (const auto& entry : std::filesystem::directory_iterator(folder)) file = entry.path().filename();
    }
    std::vector<int32_t> load() const {
        return cached_tokens(folder, corpus, tokenizer, 0, [](const std::string&) {});
    }
};

const Cache& cache() {
    static const Cache made;
    return made;
}

std::vector<std::string> samples() {
    cache().load();
    return {bytes_of_file(cache().folder + "/" + cache().file)};
}

void read(const std::string& input) {
    scratch_file("cache/" + cache().file, input);
    expect(cache().load() == cache().tokens, "the cache gave other tokens than the corpus has");
}

const RegisteredFormat registered({"token_cache", samples, read});

}  // namespace
}  // namespace sieve::fuzz
