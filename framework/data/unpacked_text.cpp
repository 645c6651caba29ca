#include "framework/data/unpacked_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>

#include "framework/core/error.h"
#include "framework/core/hash.h"
#include "framework/data/cache_file.h"
#include "framework/data/json_lines.h"
#include "framework/data/tokenizer.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "unpacked text is kept as it lies in memory");

// Raised when the same file gives another text: what was kept before is then left alone.
constexpr int64_t unpacking_version = 1;
constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

struct Trailer {
    std::array<char, 8> magic{'S', 'I', 'E', 'V', 'E', 'T', 'X', 'T'};
    uint64_t key, bytes, checksum;
    bool operator==(const Trailer&) const = default;
};

int64_t disk_room(const fs::path& folder, int64_t asked) {
    if (asked > 0) return asked;
    std::error_code code;
    const fs::space_info space = fs::space(folder, code);
    if (code || space.available == static_cast<std::uintmax_t>(-1))
        return std::numeric_limits<int64_t>::max();
    return static_cast<int64_t>(space.available / 2);
}

// Text on its way to a file of the cache.
class DiskText {
  public:
    DiskText(const fs::path& source, const fs::path& file, int64_t room) : source_(source), file_(file) {
        cache_step([&] {
            prepare_cache_folder(file.parent_path());
            room_ = disk_room(file.parent_path(), room);
            out_.emplace(file);
        });
    }
    void append(std::string_view text) {
        bytes_ += std::ssize(text);
        if (bytes_ > room_)
            fail_bad_file(fmt::format(
                "{}: unpacked it has more than {} MB, for which there is no room in {}; give less "
                "of it, or a folder for the cache on another disk",
                source_.string(), room_ / 1'000'000, file_.parent_path().string()));
        hash_.append(text);
        write(text);
    }
    std::unique_ptr<const MappedFile> finish(uint64_t key) {
        const Trailer trailer{.key = key, .bytes = static_cast<uint64_t>(bytes_), .checksum = hash_.value()};
        write({reinterpret_cast<const char*>(&trailer), sizeof trailer});
        return cache_step([&] {
            out_->commit();
            return std::make_unique<const MappedFile>(file_);
        });
    }

  private:
    void write(std::string_view bytes) {
        cache_step([&] { out_->write(bytes); });
    }

    fs::path source_, file_;
    int64_t room_ = 0, bytes_ = 0;
    ContentHash hash_;
    std::optional<AtomicFile> out_;
};

// Documents that are not empty in a text of several.
int64_t count_documents(std::string_view text) {
    int64_t count = 0;
    for (size_t begin = 0, end = 0; begin < text.size(); begin = end + end_of_text.size()) {
        end = std::min(text.find(end_of_text, begin), text.size());
        count += end > begin;
    }
    return count;
}

// A line is in memory as a whole, several times. One of a compressed file may be longer than the file, but a few
// kilobytes must not ask for all memory.
class LineLimit {
  public:
    LineLimit(const fs::path& path, const TextBudget& budget, std::optional<int64_t> file_bytes)
        : path_(path), budget_(budget) {
        constexpr int64_t usual = 8 << 20;
        if (file_bytes) most_ = usual + *file_bytes;
    }
    void check(int64_t bytes, int64_t number) const {
        if (bytes > most_)
            fail_bad_file(fmt::format(
                "{}:{}: a line of more than {} MB, out of proportion to the file; unpack it first",
                path_.string(), number, most_ / 1'000'000));
        budget_.check(bytes, path_);
    }

  private:
    const fs::path& path_;
    const TextBudget& budget_;
    int64_t most_ = std::numeric_limits<int64_t>::max();
};

using Take = std::function<void(std::string_view text)>;

// Hands the documents of JSON lines to `take`, <|endoftext|> between them.
void read_documents(TextReader& reader, const fs::path& path, const std::string& key, int64_t most,
                    const TextBudget& budget, const Take& take) {
    const LineLimit limit(path, budget, reader.file_bytes());
    std::string line;
    int64_t number = 0, documents = 0;
    const auto end_line = [&] {
        ++number;
        std::string_view content = line;
        if (number == 1 && content.starts_with(byte_order_mark))
            content.remove_prefix(byte_order_mark.size());
        if (content.find_first_not_of(" \t\r") != std::string_view::npos) {
            const std::string text =
                text_of_json_line(content, key, fmt::format("{}:{}", path.string(), number));
            if (documents > 0) take(end_of_text);
            take(text);
            documents += count_documents(text);
        }
        line.clear();
    };
    const auto has_enough = [&] { return most > 0 && documents >= most; };
    while (!has_enough()) {
        std::string_view block = reader.next();
        if (block.empty()) break;
        for (size_t end = block.find('\n'); end != std::string_view::npos && !has_enough();
             end = block.find('\n')) {
            line += block.substr(0, end);
            end_line();
            block.remove_prefix(end + 1);
        }
        limit.check(std::ssize(line) + std::ssize(block), number + 1);
        line += block;
    }
    if (!line.empty() && !has_enough()) end_line();
}

}  // namespace

struct UnpackedTexts::Source {
    fs::path path;
    Kind kind;
    int64_t documents;
    // While the file is unpacked it must stay as it was when its key was taken.
    std::unique_ptr<const MappedFile> file = nullptr;
    uint64_t key = 0;
    fs::path text_file = {};  // where its text is kept

    void find_key(const CorpusOptions& options, const DataLog& log);
};

void UnpackedTexts::Source::find_key(const CorpusOptions& options, const DataLog& log) {
    if (!text_file.empty()) return;
    file = std::make_unique<const MappedFile>(path);
    const std::string_view bytes = file->bytes();
    ContentHash hash;
    hash.add(unpacking_version).add(std::ssize(bytes));
    pass_over(*file, bytes, "looking for the text of " + path.string(), log,
              [&](std::string_view part) { hash.append(part); });
    key = hash.add(static_cast<int64_t>(kind)).add(options.text_key).add(documents).value();
    text_file = options.cache_dir / ("text-" + to_hex(key) + ".txt");
}

// Text shrinks to a fifth, text that says the same again and again to a fiftieth: what stands for more was made to fill
// a disk or a memory.
class Proportion {
  public:
    Proportion(const fs::path& path, std::optional<int64_t> file_bytes) : path_(path) {
        constexpr int64_t times = 100, always = 64 << 20;
        if (file_bytes) most_ = times * *file_bytes + always;
    }
    void take(int64_t bytes) {
        bytes_ += bytes;
        if (bytes_ > most_)
            fail_bad_file(
                fmt::format("{}: unpacked it has more than {} MB, out of proportion to the file; if that is "
                            "meant, unpack it first",
                            path_.string(), most_ / 1'000'000));
    }

  private:
    const fs::path& path_;
    int64_t most_ = std::numeric_limits<int64_t>::max(), bytes_ = 0;
};

// The text of a file that was unpacked before.
std::optional<std::string_view> UnpackedTexts::kept_text(Source& source) {
    const std::string path = source.text_file.string();
    return read_kept(source.text_file, log_, [&] {
        auto file = std::make_unique<const MappedFile>(source.text_file);
        const std::string_view bytes = file->bytes();
        Trailer trailer{};
        if (bytes.size() < sizeof trailer) fail_bad_file(path + ": too short");
        const std::string_view text = bytes.substr(0, bytes.size() - sizeof trailer);
        std::memcpy(&trailer, text.data() + text.size(), sizeof trailer);
        ContentHash hash;
        pass_over(*file, text, "reading " + path, log_, [&](std::string_view part) { hash.append(part); });
        if (trailer != Trailer{.key = source.key, .bytes = text.size(), .checksum = hash.value()})
            fail_bad_file(path + ": damaged");
        store_.add(std::move(file));
        return text;
    });
}

void UnpackedTexts::note_disk(const Source& source) {
    if (std::exchange(disk_was_noted_, true)) return;
    log_(fmt::format("{}: its text is unpacked into {}, to be used again; text-*.txt may be removed there",
                     source.path.string(), options_.cache_dir.string()));
}

std::string_view UnpackedTexts::unpack(Source& source, bool may_use_disk) {
    TextReader reader(source.path, log_);
    Proportion proportion(source.path, reader.file_bytes());
    std::string text;
    std::optional<DiskText> disk;
    const auto take = [&](std::string_view part) {
        proportion.take(std::ssize(part));
        if (disk) return disk->append(part);
        text += part;
        if (!may_use_disk || std::ssize(text) <= memory_left_)
            return budget_.take(std::ssize(part), source.path);
        source.find_key(options_, log_);
        disk.emplace(source.path, source.text_file, options_.disk_bytes);
        note_disk(source);
        disk->append(text);
        std::string().swap(text);
    };
    if (source.kind == Kind::json_lines)
        read_documents(reader, source.path, options_.text_key, source.documents, budget_, take);
    else
        for (std::string_view block = reader.next(); !block.empty(); block = reader.next()) take(block);
    if (!disk) {
        memory_left_ -= std::ssize(text);
        return store_.add(std::move(text));
    }
    source.file->check_unchanged();
    const std::string_view file = store_.add(disk->finish(source.key));
    return file.substr(0, file.size() - sizeof(Trailer));
}

std::string_view UnpackedTexts::text_of(const fs::path& path, Kind kind, int64_t documents) {
    Source source{.path = path, .kind = kind, .documents = documents};
    std::error_code code;
    // A pipe may have no end, and no name by which its text would be found again: it stays in memory.
    const bool may_use_disk = !options_.cache_dir.empty() && fs::is_regular_file(path, code);
    if (may_use_disk && 4 * static_cast<int64_t>(fs::file_size(path, code)) > memory_left_) {
        source.find_key(options_, log_);  // its text is likely to have been too large for memory
        if (const auto text = kept_text(source)) return *text;
    }
    try {
        return unpack(source, may_use_disk);
    } catch (const CacheFailure& e) {
        log_(e.reason + "; going on with the text in memory");
        return unpack(source, false);
    }
}

}  // namespace sieve
