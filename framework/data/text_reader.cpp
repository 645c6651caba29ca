#include "framework/data/text_reader.h"

#include <fmt/format.h>

#include "framework/core/available_memory.h"
#include "framework/core/error.h"
#include "framework/data/unicode.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

struct Format {
    std::string_view begins;
    const char *name, *command;  // {} is the file
};

constexpr Format formats[] = {
    {"\x1F\x8B", "compressed by gzip", "gunzip -k {}"},
    {"\x28\xB5\x2F\xFD", "compressed by zstd", "zstd -d {}"},
    {{"\xFD\x37zXZ\0", 6}, "compressed by xz", "xz -dk {}"},
    {"BZh", "compressed by bzip2", "bunzip2 -k {}"},
    {"PK\x03\x04", "a zip archive", "unzip {} -d FOLDER"},
    {"PAR1", "a Parquet table",
     "python3 -c \"import pandas; pandas.read_parquet('{}').to_json('FILE.jsonl', orient='records', "
     "lines=True)\""},
};

const Format* format_of(std::string_view first_bytes) {
    for (const Format& format : formats)
        if (first_bytes.starts_with(format.begins)) return &format;
    return nullptr;
}

std::string command_of(const Format& format, const fs::path& path) {
    std::string command = format.command;
    return command.replace(command.find("{}"), 2, path.string());
}

std::string mebibytes(int64_t bytes) {
    return fmt::format("{} MiB", bytes >> 20);
}

// A text that is in memory lies there beside its tokens, a number of four bytes for about as many bytes of text, and
// beside what counting its words takes.
constexpr int64_t times_its_size = 3;

}  // namespace

TextBudget::TextBudget() : available_(available_memory()) {}

void TextBudget::check(int64_t bytes, const fs::path& path) const {
    const int64_t text = taken_ + bytes;
    if (text <= available_ / times_its_size) return;
    throw Error(
        ErrorKind::out_of_memory,
        fmt::format(
            "{}: a text of {} or more that is unpacked in memory takes about {} times as much, and {} "
            "are free; give it as a file, with a folder for the cache, or less of it",
            path.string(), mebibytes(text), times_its_size, mebibytes(available_)));
}

void TextBudget::take(int64_t bytes, const fs::path& path) {
    check(bytes, path);
    taken_ += bytes;
}

TextReader::TextReader(const fs::path& path, const DataLog& log) : path_(path), log_(log), reader_(path) {}

std::string_view TextReader::next() {
    const int64_t offset = reader_.bytes_made();
    const std::string_view block = reader_.next();
    if (offset == 0) judge_beginning(path_, block);
    refuse_nul(path_, block, offset);
    const bool last = block.size() < CompressedReader::block_bytes;
    log_.progress("reading " + path_.string(), reader_.bytes_read(),
                  last ? reader_.bytes_read() : reader_.file_bytes().value_or(0));
    return block;
}

void refuse_nul(const fs::path& path, std::string_view part, int64_t offset) {
    const size_t nul = part.find('\0');
    if (nul != std::string_view::npos)
        fail_bad_file(fmt::format("{}: binary, not text: byte {} is NUL; want UTF-8", path.string(),
                                  offset + static_cast<int64_t>(nul)));
}

void judge_beginning(const fs::path& path, std::string_view block) {
    if (const Format* format = format_of(block))
        fail_bad_file(fmt::format("{}: {}, not text; unpack it first: {}", path.string(), format->name,
                                  command_of(*format, path)));
    const bool utf16 = block.starts_with("\xFF\xFE") || block.starts_with("\xFE\xFF");
    if (utf16 && block.find('\0') != std::string_view::npos)
        fail_bad_file(fmt::format("{}: UTF-16, want UTF-8: iconv -f UTF-16 -t UTF-8 {} > FILE", path.string(),
                                  path.string()));
    if (block.find('\0') != std::string_view::npos) return;  // refuse_nul says where
    const size_t invalid = count_invalid_utf8(block);
    if (10 * invalid > block.size())
        fail_bad_file(fmt::format("{}: binary, not text: {} of {} {}bytes are not UTF-8", path.string(),
                                  invalid, block.size(),
                                  block.size() == CompressedReader::block_bytes ? "first " : ""));
}

std::string how_to_unpack(const fs::path& path, std::string_view first_bytes) {
    const Format* format = format_of(first_bytes);
    return format ? command_of(*format, path) : "";
}

}  // namespace sieve
