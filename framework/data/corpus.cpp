#include "framework/data/corpus.h"

#include <fmt/format.h>

#include <algorithm>

#include "framework/core/error.h"
#include "framework/core/hash.h"
#include "framework/data/json_lines.h"
#include "framework/data/text_reader.h"
#include "framework/data/tokenizer.h"
#include "framework/data/unicode.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

bool has_json_lines(const fs::path& path) {
    const fs::path extension = path.extension();
    return extension == ".jsonl" || extension == ".ndjson";
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
        const fs::path extension = path.extension();
        const bool text = extension == ".txt" || extension == ".md" || has_json_lines(path);
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
        fail_bad_file(fmt::format("{}: no .txt, .md or .jsonl file in this folder{}", path.string(),
                                  others.empty() ? "" : "; it holds " + others));
    if (!others.empty())
        log(fmt::format("{}: only .txt, .md and .jsonl files are read, not {}", path.string(), others));
    return files.texts;
}

class CorpusLoader {
  public:
    CorpusLoader(size_t wanted, const DataLog& log) : wanted_(wanted), log_(log) {}

    void read(const fs::path& path, const std::string& name, bool json_lines) {
        sources_.push_back(name);
        TextReader reader(path, budget_, log_);
        if (!json_lines || wanted_ == SIZE_MAX) reader.expect_all();
        if (json_lines)
            read_json_lines(reader, path.string());
        else
            read_text(reader, path.string());
    }
    bool has_enough() const { return documents_.size() >= wanted_; }

    // The corpus but for its name.
    Corpus finish() {
        if (invalid_bytes_ > 0)
            log_(fmt::format(
                "{}: byte {} is not UTF-8{}; kept as it is", first_invalid_path_, first_invalid_at_,
                invalid_bytes_ > 1 ? fmt::format(", nor are {} more of the text", invalid_bytes_ - 1) : ""));
        if (documents_.size() > wanted_) documents_.resize(wanted_), source_of_.resize(wanted_);
        return {.name = {},
                .documents = std::move(documents_),
                .sources = std::move(sources_),
                .source_of = std::move(source_of_)};
    }

  private:
    void read_text(TextReader& reader, const std::string& path) {
        std::string text;
        for (std::string_view block = reader.next(); !block.empty(); block = reader.next()) text += block;
        note_invalid(text, path);
        std::string_view rest = text;
        if (rest.starts_with(byte_order_mark)) rest.remove_prefix(byte_order_mark.size());
        append_documents(rest);
    }

    void read_json_lines(TextReader& reader, const std::string& path) {
        std::string line;
        int64_t number = 0;
        const auto end_line = [&] {
            ++number;
            std::string_view content = line;
            if (number == 1 && content.starts_with(byte_order_mark))
                content.remove_prefix(byte_order_mark.size());
            if (content.find_first_not_of(" \t\r") != std::string_view::npos)
                append_documents(text_of_json_line(content, fmt::format("{}:{}", path, number)));
            line.clear();
        };
        while (!has_enough()) {
            std::string_view block = reader.next();
            if (block.empty()) break;
            for (size_t end = block.find('\n'); end != std::string_view::npos && !has_enough();
                 end = block.find('\n')) {
                line += block.substr(0, end);
                end_line();
                block.remove_prefix(end + 1);
            }
            line += block;
        }
        if (!line.empty() && !has_enough()) end_line();
    }

    void append_documents(std::string_view text) {
        while (!text.empty()) {
            const size_t end = std::min(text.find(end_of_text), text.size());
            if (end > 0) {
                documents_.emplace_back(text.substr(0, end));
                source_of_.push_back(std::ssize(sources_) - 1);
            }
            text.remove_prefix(std::min(end + end_of_text.size(), text.size()));
        }
    }

    void note_invalid(std::string_view text, const std::string& path) {
        for (size_t at = 0; at < text.size();) {
            const Utf8Char c = utf8_at(text, at);
            if (!c.valid && invalid_bytes_++ == 0) first_invalid_path_ = path, first_invalid_at_ = at;
            at += c.length;
        }
    }

    static constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

    size_t wanted_;
    const DataLog& log_;
    TextBudget budget_;
    std::vector<std::string> documents_, sources_;
    std::vector<int64_t> source_of_;
    int64_t invalid_bytes_ = 0;
    std::string first_invalid_path_;
    size_t first_invalid_at_ = 0;
};

}  // namespace

int64_t Corpus::bytes() const {
    int64_t sum = 0;
    for (const std::string& document : documents) sum += static_cast<int64_t>(document.size());
    return sum;
}

uint64_t Corpus::hash() const {
    ContentHash hash;
    for (const std::string& document : documents) hash.add(document);
    return hash.value();
}

Corpus load_corpus(const fs::path& path, int64_t num_documents, const DataLog& log) {
    if (num_documents < 0) fail_usage(fmt::format("num_documents: {}; want 0 (all) or more", num_documents));
    CorpusLoader loader(num_documents > 0 ? static_cast<size_t>(num_documents) : SIZE_MAX, log);
    for (const fs::path& file : text_files(path, log)) {
        const fs::path name = file == path ? file.filename() : file.lexically_relative(path);
        loader.read(file, name.generic_string(),
                    has_json_lines(file) || (file == path && file.extension() == ".json"));
        if (loader.has_enough()) break;
    }
    Corpus corpus = loader.finish();
    corpus.name = path.string();
    if (corpus.documents.empty()) fail_bad_file(path.string() + ": empty; give some text");
    return corpus;
}

}  // namespace sieve
