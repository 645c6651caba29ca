#include "framework/data/corpus.h"

#include <fmt/format.h>

#include <algorithm>

#include "framework/core/error.h"
#include "framework/core/hash.h"
#include "framework/data/text_reader.h"
#include "framework/data/tokenizer.h"
#include "framework/data/unicode.h"
#include "framework/data/unpacked_text.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

// Of what it is when it is unpacked: "a.jsonl" of a.jsonl.zst.
fs::path without_compression(const fs::path& path) {
    const fs::path extension = path.extension();
    return extension == ".gz" || extension == ".zst" ? path.stem() : path.filename();
}

bool has_json_lines(const fs::path& path) {
    const fs::path extension = without_compression(path).extension();
    return extension == ".jsonl" || extension == ".ndjson";
}

bool is_text(const fs::path& path) {
    const fs::path extension = without_compression(path).extension();
    return extension == ".txt" || extension == ".md" || has_json_lines(path);
}

// What is in a folder and below.
struct FolderFiles {
    std::vector<fs::path> texts, others;
};

FolderFiles files_in(const fs::path& folder) {
    FolderFiles files;
    std::error_code code, unreadable;
    fs::recursive_directory_iterator entries(folder, code);
    for (; !code && entries != fs::recursive_directory_iterator(); entries.increment(code)) {
        const fs::path& path = entries->path();
        const std::string name = path.filename().string();
        if (!entries->is_regular_file(unreadable) || name == "README.md" || name.starts_with('.')) continue;
        const bool text = is_text(path);
        if (text || entries->file_size(unreadable) > 0) (text ? files.texts : files.others).push_back(path);
    }
    if (code) fail_bad_file(folder.string() + ": cannot list this folder: " + code.message());
    std::sort(files.texts.begin(), files.texts.end());
    std::sort(files.others.begin(), files.others.end());
    return files;
}

std::string first_bytes(const fs::path& path) {
    try {
        return std::string(BlockReader(path).next().substr(0, 16));
    } catch (const Error&) {  // it is only to be named
        return "";
    }
}

// "3 other files, such as a.csv.gz and b.pdf; unpack what is compressed, as in: gunzip -k books/a.csv.gz"
std::string describe_others(const std::vector<fs::path>& others) {
    std::string text = fmt::format("{} other file{}, such as {}", others.size(),
                                   others.size() == 1 ? "" : "s", others[0].filename().string());
    if (others.size() > 1) text += " and " + others[1].filename().string();
    for (size_t i = 0; i < std::min<size_t>(others.size(), 100); ++i)
        if (const std::string command = how_to_unpack(others[i], first_bytes(others[i])); !command.empty())
            return text + "; unpack what is compressed, as in: " + command;
    return text;
}

std::vector<fs::path> text_files(const fs::path& path, const DataLog& log) {
    std::error_code code;
    const fs::file_status status = fs::status(path, code);
    if (!fs::exists(status))
        fail_bad_file(path.string() + ": no such file or folder; give a text file or a folder of them");
    if (!fs::is_directory(status)) return {path};
    const FolderFiles files = files_in(path);
    const std::string others = files.others.empty() ? "" : describe_others(files.others);
    if (files.texts.empty())
        fail_bad_file(
            fmt::format("{}: no .txt, .md or .jsonl file in this folder, nor one of them with .gz or .zst{}",
                        path.string(), others.empty() ? "" : "; it holds " + others));
    if (!others.empty())
        log(fmt::format("{}: only .txt, .md and .jsonl files are read, and .gz and .zst of them, not {}",
                        path.string(), others));
    return files.texts;
}

bool is_regular(const fs::path& path) {
    std::error_code code;
    return fs::is_regular_file(path, code);
}

class CorpusLoader {
  public:
    CorpusLoader(const CorpusOptions& options, const DataLog& log)
        : wanted_(options.num_documents > 0 ? static_cast<size_t>(options.num_documents) : SIZE_MAX),
          log_(log),
          unpacked_(options, *store_, log) {}

    void read(const fs::path& path, const std::string& name, bool json_lines) {
        using Kind = UnpackedTexts::Kind;
        corpus_.sources.push_back(name);
        if (json_lines) {
            const auto left =
                wanted_ == SIZE_MAX ? 0 : static_cast<int64_t>(wanted_ - corpus_.documents.size());
            append_documents(unpacked_.text_of(path, Kind::json_lines, left), path, false);
            return;
        }
        std::optional<std::string_view> text;
        // The other mappings are for what is unpacked.
        if (is_regular(path) && MappedFile::count() < MappedFile::most / 2) text = mapped_text(path);
        append_documents(text ? *text : unpacked_.text_of(path, Kind::text, 0), path, true);
    }
    bool has_enough() const { return corpus_.documents.size() >= wanted_; }

    // The corpus but for its name.
    Corpus finish() {
        if (invalid_bytes_ > 0)
            log_(fmt::format(
                "{}: byte {} is not UTF-8{}; kept as it is", first_invalid_path_, first_invalid_at_,
                invalid_bytes_ > 1 ? fmt::format(", nor are {} more of the text", invalid_bytes_ - 1) : ""));
        corpus_.store = store_;
        return std::move(corpus_);
    }
    const TextStore& store() const { return *store_; }

  private:
    // Nothing for a file that is compressed.
    std::optional<std::string_view> mapped_text(const fs::path& path) {
        auto file = std::make_unique<const MappedFile>(path);
        const std::string_view text = file->bytes(), beginning = text.substr(0, block_bytes);
        if (compression_of(beginning) != Compression::none) return std::nullopt;
        judge_beginning(path, beginning);
        return store_->add(std::move(file));
    }

    // Text of a file is looked at a block at a time: what was passed is released. JSON may hold a NUL, and has no
    // byte-order mark.
    void append_documents(std::string_view text, const fs::path& path, bool of_file) {
        size_t begin = of_file && text.starts_with(byte_order_mark) ? byte_order_mark.size() : 0, valid = 0;
        for (size_t at = 0; at < text.size() && !has_enough(); at += block_bytes) {
            const std::string_view block = text.substr(at, block_bytes);
            if (of_file) refuse_nul(path, block, static_cast<int64_t>(at));
            valid = note_invalid(text, valid, at + block.size(), path);
            // An <|endoftext|> that begins in this block.
            const std::string_view upto = text.substr(0, at + block.size() + end_of_text.size() - 1);
            for (size_t end = upto.find(end_of_text, std::max(begin, at)); end != std::string_view::npos;
                 end = upto.find(end_of_text, begin)) {
                append_document(text.substr(begin, end - begin));
                begin = end + end_of_text.size();
            }
            release_.passed(block);
            log_.progress("reading " + path.string(), static_cast<int64_t>(at + block.size()),
                          std::ssize(text));
        }
        append_document(text.substr(std::min(begin, text.size())));
    }

    void append_document(std::string_view text) {
        if (text.empty() || has_enough()) return;
        corpus_.documents.push_back(text);
        corpus_.source_of.push_back(std::ssize(corpus_.sources) - 1);
    }

    // Goes on from `at` to `end` or the end of the character there, and returns where that is.
    size_t note_invalid(std::string_view text, size_t at, size_t end, const fs::path& path) {
        while (at < end) {
            at = end_of_ascii(text.substr(0, end), at);
            if (at == end) break;
            const Utf8Char c = utf8_at(text, at);
            if (!c.valid && invalid_bytes_++ == 0)
                first_invalid_path_ = path.string(), first_invalid_at_ = at;
            at += c.length;
        }
        return at;
    }

    static constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
    static constexpr size_t block_bytes = CompressedReader::block_bytes;

    size_t wanted_;
    const DataLog& log_;
    std::shared_ptr<TextStore> store_ = std::make_shared<TextStore>();
    TextRelease release_{*store_};
    UnpackedTexts unpacked_;
    Corpus corpus_;
    int64_t invalid_bytes_ = 0;
    std::string first_invalid_path_;
    size_t first_invalid_at_ = 0;
};

// Fills corpus.hash and corpus.document_hashes.
void hash_documents(Corpus& corpus, const DataLog& log) {
    constexpr size_t step = 1 << 22, between = 1 << 24;
    const int64_t total = corpus.bytes();
    ContentHash all;
    int64_t done = 0, reported = 0;
    TextRelease release(*corpus.store);
    for (const std::string_view document : corpus.documents) {
        ContentHash one;
        all.add(std::ssize(document));
        one.add(std::ssize(document));
        for (size_t at = 0; at < document.size(); at += step) {
            const std::string_view part = document.substr(at, step);
            all.append(part);
            one.append(part);
            release.passed(part);
            done += std::ssize(part);
            if (done < total && done - reported < static_cast<int64_t>(between)) continue;
            log.progress("hashing " + corpus.name, reported = done, total);
        }
        corpus.document_hashes.push_back(one.value());
    }
    corpus.hash = all.value();
}

Corpus read_corpus(const fs::path& path, CorpusLoader& loader, const DataLog& log) {
    for (const fs::path& file : text_files(path, log)) {
        const fs::path name = file == path ? file.filename() : file.lexically_relative(path);
        const bool named_json = file == path && without_compression(file).extension() == ".json";
        loader.read(file, name.generic_string(), has_json_lines(file) || named_json);
        if (loader.has_enough()) break;
    }
    Corpus corpus = loader.finish();
    corpus.name = path.string();
    if (corpus.documents.empty()) fail_bad_file(path.string() + ": empty; give some text");
    hash_documents(corpus, log);
    corpus.store->check_unchanged();
    return corpus;
}

}  // namespace

int64_t Corpus::bytes() const {
    int64_t sum = 0;
    for (const std::string_view document : documents) sum += std::ssize(document);
    return sum;
}

Corpus load_corpus(const fs::path& path, const CorpusOptions& options, const DataLog& log) {
    if (options.num_documents < 0)
        fail_usage(fmt::format("num_documents: {}; want 0 (all) or more", options.num_documents));
    CorpusLoader loader(options, log);
    try {
        return read_corpus(path, loader, log);
    } catch (const Error&) {
        loader.store().check_unchanged();  // or else that is what is wrong
        throw;
    }
}

Corpus corpus_of_texts(std::string name, std::vector<std::string> texts, std::vector<std::string> sources,
                       std::vector<int64_t> source_of) {
    Corpus corpus{.name = std::move(name), .sources = std::move(sources), .source_of = std::move(source_of)};
    const auto store = std::make_shared<TextStore>();
    for (std::string& text : texts) corpus.documents.push_back(store->add(std::move(text)));
    corpus.store = store;
    hash_documents(corpus, {});
    return corpus;
}

}  // namespace sieve
