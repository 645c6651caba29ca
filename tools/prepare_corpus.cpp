// Turns two unpacked Debian packages of public-domain prose into plain text files. data/get_corpus.sh calls
// it.
//
//   prepare_corpus austen R_DATA_FOLDER OUT      r-cran-janeaustenr: the six novels, a file each
//   prepare_corpus spurgeon SWORD_FOLDER OUT     sword-comm-tdavid: The Treasury of David, one file
//   prepare_corpus                               exits 2: this text
#include <fmt/format.h>
#include <libdeflate.h>

#include <array>
#include <cstring>
#include <memory>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view usage =
    "usage: prepare_corpus austen R_DATA_FOLDER OUT_FOLDER\n"
    "       prepare_corpus spurgeon SWORD_FOLDER OUT_FOLDER\n";

uint32_t big_endian(std::string_view bytes, size_t at) {
    if (bytes.size() < 4 || at > bytes.size() - 4) fail_bad_file("prepare_corpus: the data end too early");
    uint32_t value = 0;
    for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    return value;
}

uint32_t little_endian(std::string_view bytes, size_t at) {
    return __builtin_bswap32(big_endian(bytes, at));
}

// Decompresses one zlib stream of known size; `used` is set to its compressed size.
std::string inflate(std::string_view stream, size_t size, size_t& used) {
    const std::unique_ptr<libdeflate_decompressor, decltype(&libdeflate_free_decompressor)> decompressor(
        libdeflate_alloc_decompressor(), libdeflate_free_decompressor);
    std::string text(size, '\0');
    const libdeflate_result result = libdeflate_zlib_decompress_ex(
        decompressor.get(), stream.data(), stream.size(), text.data(), size, &used, nullptr);
    if (result != LIBDEFLATE_SUCCESS) fail_bad_file("prepare_corpus: a zlib stream is damaged");
    return text;
}

// Lines broken at 70 columns become paragraphs, a line each; an empty line between two.
class Paragraphs {
  public:
    void add_line(std::string_view line) {
        if (line.empty()) return end();
        if (!open_ && !text_.empty()) text_ += '\n';
        if (open_) text_ += ' ';
        text_ += line;
        open_ = true;
    }
    void end() {
        if (open_) text_ += '\n';
        open_ = false;
    }
    std::string take() {
        end();
        return std::move(text_);
    }

  private:
    std::string text_;
    bool open_ = false;
};

// A serialised R character vector: a header ("X\n", format 3, two versions, the native encoding), the type
// 16, the number of strings, and for each the type word, the length (-1: NA) and the bytes. All numbers are
// big-endian.
std::string read_r_lines(std::string_view data) {
    constexpr size_t encoding_length_at = 14;
    constexpr uint32_t character_vector = 16, missing = 0xFFFFFFFF;
    if (!data.starts_with("X\n") || big_endian(data, 2) != 3)
        fail_bad_file("prepare_corpus: not R data, format 3");
    size_t at = encoding_length_at + 4 + big_endian(data, encoding_length_at);
    if ((big_endian(data, at) & 0xFF) != character_vector)
        fail_bad_file("prepare_corpus: not an R character vector");
    const uint32_t count = big_endian(data, at + 4);
    at += 8;
    Paragraphs paragraphs;
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t length = big_endian(data, at + 4);
        at += 8;
        if (length == missing) continue;
        if (length > data.size() - at) fail_bad_file("prepare_corpus: an R string ends too early");
        paragraphs.add_line(data.substr(at, length));
        at += length;
    }
    return paragraphs.take();
}

// Rdata.rdb: after one another, in the order of the names, uint32 size and a zlib stream.
void prepare_austen(const fs::path& in, const fs::path& out) {
    constexpr std::array novels = {"emma",       "mansfield-park",      "northanger-abbey",
                                   "persuasion", "pride-and-prejudice", "sense-and-sensibility"};
    const std::string database = read_file(in / "Rdata.rdb");
    std::string_view rest = database;
    for (const char* novel : novels) {
        size_t used = 0;
        const std::string data =
            inflate(rest.substr(std::min<size_t>(4, rest.size())), big_endian(rest, 0), used);
        rest.remove_prefix(4 + used);
        write_file_atomic(out / fmt::format("austen-{}.txt", novel), read_r_lines(data));
    }
}

// Replaces the five XML entities; others do not occur.
std::string_view entity_text(std::string_view entity) {
    if (entity == "&amp;") return "&";
    if (entity == "&lt;") return "<";
    if (entity == "&gt;") return ">";
    if (entity == "&quot;") return "\"";
    if (entity == "&apos;") return "'";
    fail_bad_file(fmt::format("prepare_corpus: unknown XML entity {}", entity));
}

// The tags that end a line of text in OSIS; all others only mark words inside one.
bool ends_paragraph(std::string_view tag) {
    for (const std::string_view name : {"<div", "<title", "</title", "<chapter", "<item", "</item", "<list",
                                        "</list", "<lg", "<l ", "</l>", "<milestone"}) {
        if (tag.starts_with(name)) return true;
    }
    return false;
}

// Appends one paragraph for the text since the last break, white space squeezed.
void end_osis_paragraph(std::string& line, Paragraphs& paragraphs) {
    while (line.ends_with(' ')) line.pop_back();
    paragraphs.add_line(line);
    paragraphs.end();
    line.clear();
}

void append_osis_character(std::string& line, char c) {
    const bool space = c == ' ' || c == '\n' || c == '\r' || c == '\t';
    if (!space) {
        line += c;
    } else if (!line.empty() && line.back() != ' ') {
        line += ' ';
    }
}

void strip_osis(std::string_view xml, Paragraphs& paragraphs) {
    std::string line;
    for (size_t at = 0; at < xml.size();) {
        const char closing = xml[at] == '<' ? '>' : ';';
        if (xml[at] != '<' && xml[at] != '&') {
            append_osis_character(line, xml[at++]);
            continue;
        }
        const size_t end = xml.find(closing, at);
        if (end == std::string_view::npos) fail_bad_file("prepare_corpus: an XML tag or entity does not end");
        const std::string_view markup = xml.substr(at, end + 1 - at);
        if (closing == ';') line += entity_text(markup);
        if (closing == '>' && ends_paragraph(markup)) end_osis_paragraph(line, paragraphs);
        at = end + 1;
    }
    end_osis_paragraph(line, paragraphs);
}

// ot.czs: for each block of text uint32 offset, compressed size and size, little-endian; ot.czz: the zlib
// streams.
void prepare_spurgeon(const fs::path& in, const fs::path& out) {
    constexpr size_t record = 12;
    const std::string index = read_file(in / "ot.czs"), streams = read_file(in / "ot.czz");
    Paragraphs paragraphs;
    for (size_t at = 0; at + record <= index.size(); at += record) {
        const size_t offset = little_endian(index, at), size = little_endian(index, at + 4);
        if (offset > streams.size() || size > streams.size() - offset) {
            fail_bad_file("prepare_corpus: ot.czs points past the end of ot.czz");
        }
        size_t used = 0;
        const auto stream = std::string_view(streams).substr(offset, size);
        strip_osis(inflate(stream, little_endian(index, at + 8), used), paragraphs);
    }
    write_file_atomic(out / "spurgeon-treasury-of-david.txt", paragraphs.take());
}

int run(std::string_view what, const fs::path& in, const fs::path& out) {
    make_folder(out);
    if (what == "austen") {
        prepare_austen(in, out);
    } else if (what == "spurgeon") {
        prepare_spurgeon(in, out);
    } else {
        fail_usage(fmt::format("prepare_corpus: \"{}\"; want austen or spurgeon", what));
    }
    return 0;
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    if (argc != 4) {
        fmt::print(stderr, "{}", sieve::usage);
        return static_cast<int>(sieve::ErrorKind::usage);
    }
    try {
        return sieve::run(argv[1], argv[2], argv[3]);
    } catch (const sieve::Error& e) {
        fmt::print(stderr, "{}\n", e.what());
        return static_cast<int>(e.kind());
    } catch (const std::exception& e) {
        fmt::print(stderr, "prepare_corpus: {}\n", e.what());
        return static_cast<int>(sieve::ErrorKind::failure);
    }
}
