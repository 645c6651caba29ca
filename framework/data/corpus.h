// Text from disk: one document a file, in the order of the paths. The text <|endoftext|> inside a file ends a
// document and begins the next one. A file of JSON lines (.jsonl, .ndjson; .json when it is named by itself)
// has one document a line: the text under the key "text" of the line's object.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "framework/data/data_log.h"

namespace sieve {

struct Corpus {
    std::string name;                    // the path that it came from
    std::vector<std::string> documents;  // none is empty
    std::vector<std::string> sources;    // the files, named relative to the folder
    std::vector<int64_t> source_of;      // of each document: its place in `sources`

    int64_t bytes() const;
    uint64_t hash() const;  // of the documents, not of the name
};

// A file, or a folder with all .txt, .md, .jsonl and .ndjson files in it and below, except README.md; other
// files of a folder are counted in a note. A byte-order mark is dropped. Bytes that are not UTF-8 are kept,
// and counted in a note. `num_documents` keeps the first ones (0: all).
//
// Files are read block by block. Errors, each one line: the path is missing, no text files, empty, compressed
// (how to unpack it), binary (a NUL byte, or more than a tenth of the bytes is not UTF-8), a line that is no
// JSON or has no "text" (with its number); all bad_file. Out of memory, before the system is: a text that
// takes more than is free.
Corpus load_corpus(const std::filesystem::path& path, int64_t num_documents = 0, const DataLog& log = {});

}  // namespace sieve
