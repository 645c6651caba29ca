#include "framework/data/corpus.h"

#include <fmt/format.h>

#include <algorithm>

#include "framework/core/error.h"
#include "framework/data/hash.h"
#include "framework/data/tokenizer.h"
#include "framework/data/unicode.h"
#include "framework/io/atomic_file.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

bool is_text_file(const fs::directory_entry& entry) {
    const fs::path extension = entry.path().extension();
    return entry.is_regular_file() && (extension == ".txt" || extension == ".md") &&
           entry.path().filename() != "README.md";
}

std::vector<fs::path> text_files(const fs::path& path) {
    std::error_code code;
    const fs::file_status status = fs::status(path, code);
    if (!fs::exists(status))
        fail_bad_file(path.string() + ": no such file or folder; give a text file or a folder of them");
    if (!fs::is_directory(status)) return {path};
    std::vector<fs::path> files;
    fs::recursive_directory_iterator entries(path, code);
    for (; !code && entries != fs::recursive_directory_iterator(); entries.increment(code)) {
        if (is_text_file(*entries)) files.push_back(entries->path());
    }
    if (code) fail_bad_file(path.string() + ": cannot list this folder: " + code.message());
    if (files.empty()) fail_bad_file(path.string() + ": no .txt or .md file in this folder");
    std::sort(files.begin(), files.end());
    return files;
}

void check_is_text(std::string_view text, const fs::path& path) {
    if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
        fail_bad_file(fmt::format("{}: binary, not text: byte {} is NUL; want UTF-8", path.string(), nul));
    }
    const size_t invalid = count_invalid_utf8(text);
    if (10 * invalid > text.size()) {
        fail_bad_file(fmt::format("{}: binary, not text: {} of {} bytes are not UTF-8", path.string(),
                                  invalid, text.size()));
    }
}

std::string read_text(const fs::path& path) {
    std::string text = read_file(path);
    check_is_text(text, path);
    if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
    return text;
}

void append_documents(std::string_view text, std::vector<std::string>& documents) {
    while (!text.empty()) {
        const size_t end = std::min(text.find(end_of_text), text.size());
        if (end > 0) documents.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + end_of_text.size(), text.size()));
    }
}

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

Corpus load_corpus(const fs::path& path, int64_t num_documents) {
    if (num_documents < 0) fail_usage(fmt::format("num_documents: {}; want 0 (all) or more", num_documents));
    const auto wanted = num_documents > 0 ? static_cast<size_t>(num_documents) : SIZE_MAX;
    Corpus corpus{.name = path.string(), .documents = {}};
    for (const fs::path& file : text_files(path)) {
        append_documents(read_text(file), corpus.documents);
        if (corpus.documents.size() >= wanted) break;
    }
    if (corpus.documents.size() > wanted) corpus.documents.resize(wanted);
    if (corpus.documents.empty()) fail_bad_file(path.string() + ": empty; give some text");
    return corpus;
}

}  // namespace sieve
