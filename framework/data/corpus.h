// Text from disk: one document a file, in the order of the paths. The text <|endoftext|> inside a file ends a
// document and begins the next one. A file of JSON lines (.jsonl, .ndjson; .json when it is named by itself)
// has one document a line: the text under a key of the line's object. Any of them may be compressed (.gz, .zst).
//
// A corpus may be larger than memory. Plain text is read where it lies, by mapping the file. What is unpacked or taken
// out of JSON lies in memory while it is small, else in a file of the cache folder, text-KEY.txt: documents with
// <|endoftext|> between them, then "SIEVETXT", uint64 key, uint64 bytes and uint64 XXH3 of the text. The key is a hash
// of the source's content and of what was asked of it, so that the file serves again; it may be removed at any time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "framework/data/data_log.h"
#include "framework/data/text_store.h"

namespace sieve {

struct Corpus {
    std::string name;                         // the path that it came from
    std::vector<std::string_view> documents;  // none is empty
    std::vector<uint64_t> document_hashes;    // ContentHash of each
    std::vector<std::string> sources;         // the files, named relative to the folder
    std::vector<int64_t> source_of;           // of each document: its place in `sources`
    uint64_t hash = 0;                        // of the documents, not of the name
    std::shared_ptr<const TextStore> store;   // what the documents are parts of

    int64_t bytes() const;
};

struct CorpusOptions {
    int64_t num_documents = 0;        // the first ones (0: all)
    std::string text_key = "text";    // of JSON lines
    std::filesystem::path cache_dir;  // for text that is unpacked; empty: all of it stays in memory
    int64_t memory_bytes = 64 << 20;  // of unpacked text that stays in memory where there is a cache_dir
    int64_t disk_bytes = 0;           // that an unpacked file may have; 0: half of what is free
};

// A file, or a folder with all .txt, .md, .jsonl and .ndjson files in it and below, compressed or not, except
// README.md; other files of a folder are counted in a note. A byte-order mark is dropped. Bytes that are not UTF-8 are
// kept, and counted in a note.
//
// Errors, each one line: the path is missing, no text files, empty, damaged, compressed in another way (how to unpack
// it), binary (a NUL byte, or more than a tenth of the first bytes is not UTF-8), a line that is no JSON or lacks the
// key (with its number), more to unpack than the disk has room for; all bad_file. Out of memory, before the system is:
// text that is to stay in memory and takes more than is free.
Corpus load_corpus(const std::filesystem::path& path, const CorpusOptions& options = {},
                   const DataLog& log = {});

// Texts that are in memory already; an empty `sources`: of no file.
Corpus corpus_of_texts(std::string name, std::vector<std::string> texts,
                       std::vector<std::string> sources = {}, std::vector<int64_t> source_of = {});

}  // namespace sieve
