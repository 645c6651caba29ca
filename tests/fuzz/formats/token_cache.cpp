// The cache of an encoded corpus. Whatever stands in it, the tokens are those of the corpus.
#include "framework/data/token_cache.h"

#include <filesystem>

#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

constexpr const char* text = "the cat and the hat and the bat sat on the mat";

struct Cache {
    std::vector<TextPiece> pieces{{.text = text, .ends_document = false}, {.text = "the end"}};
    Tokenizer tokenizer = Tokenizer::train(text, 270);
    EncodedText tokens = encode_pieces(pieces, tokenizer, 0, "text");
    std::string folder = scratch_folder() + "/cache", file;

    Cache() {
        load();
        for (const auto& entry : std::filesystem::directory_iterator(folder)) file = entry.path().filename();
    }
    EncodedText load() const {
        return cached_pieces(folder, pieces, tokenizer, 0, "text", [](const std::string&) {});
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
