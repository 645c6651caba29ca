// JSON lines, compressed or not, as a corpus is read from them.
#include <filesystem>

#include "framework/data/corpus.h"
#include "tests/fuzz/format.h"
#include "tests/support/compress.h"

namespace sieve::fuzz {
namespace {

using testing::gzipped;
using testing::zstd_packed;

std::string lines(size_t count) {
    std::string text;
    for (size_t i = 0; i < count; ++i)
        text += "{\"id\": " + std::to_string(i) + ", \"text\": \"one <|endoftext|> \\u00e9\"}\n";
    return text;
}

std::vector<std::string> samples() {
    return {lines(3), gzipped(lines(5)), zstd_packed(lines(5)), gzipped(lines(2)) + gzipped(lines(30)),
            zstd_packed(lines(2)) + zstd_packed(lines(300))};
}

std::vector<std::string> attacks() {
    const std::string one_line = "{\"text\": \"" + std::string(60'000'000, 'a');  // of kilobytes
    std::string nested = gzipped(repeated("[", 4'000'000));
    return {gzipped(one_line),
            zstd_packed(one_line),
            gzipped(lines(400'000)),
            zstd_packed(lines(400'000)),
            nested,
            std::string("\x28\xB5\x2F\xFD\x00\xA8\x01\x00\x00", 9)};
}

void read(const std::string& input) {
    const std::string folder = scratch_folder() + "/unpacked";
    const CorpusOptions options{.cache_dir = folder, .memory_bytes = 1 << 20, .disk_bytes = 4 << 20};
    load_corpus(scratch_file("x.jsonl", input), options);
    std::filesystem::remove_all(folder);
}

const RegisteredFormat registered({"compressed_text", samples, read, attacks});

}  // namespace
}  // namespace sieve::fuzz
