// Text from disk: one document a file, in the order of the paths. The text <|endoftext|> inside a file ends a
// document and begins the next one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace sieve {

struct Corpus {
    std::string name;                    // the path that it came from
    std::vector<std::string> documents;  // none is empty

    int64_t bytes() const;
    uint64_t hash() const;  // of the documents, not of the name
};

// A file, or a folder with all .txt and .md files in it and below, except README.md. A byte-order mark is
// dropped. `num_documents` keeps the first ones (0: all). Errors, each one line: the path is missing, no text
// files, empty, binary (a NUL byte, or more than a tenth of the bytes is not UTF-8).
Corpus load_corpus(const std::filesystem::path& path, int64_t num_documents = 0);

}  // namespace sieve
