#include "framework/io/zip.h"

#include <algorithm>
#include <string>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/crc32.h"
#include "framework/io/little_endian.h"

namespace sieve {
namespace {

constexpr uint32_t local_signature = 0x04034B50, directory_signature = 0x02014B50, end_signature = 0x06054B50;
constexpr uint32_t end64_signature = 0x06064B50, locator64_signature = 0x07064B50;
constexpr size_t local_size = 30, directory_entry_size = 46, end_size = 22, end64_size = 56,
                 locator64_size = 20;
constexpr uint64_t limit32 = 0xFFFFFFFFu, limit16 = 0xFFFFu;
constexpr uint16_t version_needed = 20, date_1980 = 0x21;
constexpr uint16_t utf8_names = 1 << 11, encrypted = 1;
constexpr uint16_t padding_field = 0x4246;  // "FB", as PyTorch's own writer names it
constexpr uint64_t alignment = 64;          // of payloads

// What an archive of ours says of a member.
struct Described {
    std::string_view name;
    uint32_t crc = 0, size = 0;
    uint32_t offset = 0;  // of its local header
};

// The part that a local header and a directory entry have in common.
std::string common_fields(const Described& member, uint16_t extra_size) {
    std::string bytes;
    append_number(bytes, version_needed);
    append_number(bytes, utf8_names);
    append_number(bytes, uint16_t{0});  // stored
    append_number(bytes, uint16_t{0});  // time
    append_number(bytes, date_1980);
    append_number(bytes, member.crc);
    append_number(bytes, member.size);
    append_number(bytes, member.size);
    append_number(bytes, static_cast<uint16_t>(member.name.size()));
    append_number(bytes, extra_size);
    return bytes;
}

// Padded so that the payload that follows begins at a multiple of `alignment`.
std::string local_header(const Described& member) {
    // An extra field has 4 bytes of its own before its padding.
    const uint64_t unpadded = member.offset + local_size + member.name.size() + 4;
    const auto padding = static_cast<uint16_t>((alignment - unpadded % alignment) % alignment);
    std::string header;
    append_number(header, local_signature);
    header += common_fields(member, static_cast<uint16_t>(4 + padding));
    header += member.name;
    append_number(header, padding_field);
    append_number(header, padding);
    header.append(padding, 'Z');
    return header;
}

std::string directory_entry(const Described& member) {
    std::string entry;
    append_number(entry, directory_signature);
    append_number(entry, version_needed);  // made by
    entry += common_fields(member, 0);
    entry.append(10, '\0');  // no comment, disk 0, no attributes
    append_number(entry, member.offset);
    entry += member.name;
    return entry;
}

std::string end_record(uint64_t members, uint64_t directory_size, uint64_t directory_offset) {
    std::string end;
    append_number(end, end_signature);
    append_number(end, uint32_t{0});  // this disk, the directory's disk
    append_number(end, static_cast<uint16_t>(members));
    append_number(end, static_cast<uint16_t>(members));
    append_number(end, static_cast<uint32_t>(directory_size));
    append_number(end, static_cast<uint32_t>(directory_offset));
    append_number(end, uint16_t{0});  // no comment
    return end;
}

}  // namespace

ZipWriter::ZipWriter(std::filesystem::path path) : path_(std::move(path)) {}

void ZipWriter::add(std::string_view name, std::string_view payload) {
    if (name.size() > limit16) fail("zip: a member name of " + std::to_string(name.size()) + " bytes");
    const uint64_t most = local_size + name.size() + 4 + alignment + payload.size();
    if (offset_ + most > limit32 || members_ == limit16 - 1)
        fail_bad_file(path_.string() + ": cannot write: more than 4 GiB or 65534 members in one zip archive");
    const Described member{name, crc32_of(payload), static_cast<uint32_t>(payload.size()),
                           static_cast<uint32_t>(offset_)};
    owned_.push_back(local_header(member));
    pieces_.push_back(owned_.back());
    pieces_.push_back(payload);
    directory_ += directory_entry(member);
    offset_ += owned_.back().size() + payload.size();
    ++members_;
}

void ZipWriter::add_owned(std::string_view name, std::string payload) {
    owned_.push_back(std::move(payload));
    add(name, owned_.back());
}

void ZipWriter::write() {
    if (offset_ + directory_.size() > limit32)
        fail_bad_file(path_.string() + ": cannot write: more than 4 GiB in one zip archive");
    const std::string end = end_record(members_, directory_.size(), offset_);
    std::vector<std::string_view> pieces = pieces_;
    pieces.push_back(directory_);
    pieces.push_back(end);
    write_file_atomic(path_, pieces);
}

namespace {

// Where the directory lies, from the record at the archive's end.
struct Directory {
    uint64_t offset = 0, size = 0, members = 0;
};

struct Entry {
    std::string_view name;
    uint32_t crc = 0;
    uint64_t size = 0, stored_size = 0, offset = 0;
    std::string_view raw, header, payload;  // its part of the directory, its local header, what it holds

    uint64_t end() const { return offset + header.size() + payload.size(); }
};

class ZipParser {
  public:
    ZipParser(std::string_view bytes, const std::string& path, const std::string& format)
        : bytes_(bytes), path_(path), format_(format) {}

    std::vector<ZipMember> members() {
        const Directory directory = find_directory();
        if (directory.members > directory.size / directory_entry_size) not_this_format();
        std::vector<Entry> entries;
        entries.reserve(directory.members);
        uint64_t at = directory.offset;
        for (uint64_t i = 0; i < directory.members; ++i) {
            entries.push_back(parse_entry(at));
            find_payload(entries.back(), directory.offset);
        }
        if (at != directory.offset + directory.size) not_this_format();
        check_names(entries);
        check_overlaps(entries);
        check_as_written(entries, directory);
        std::vector<ZipMember> result;
        result.reserve(entries.size());
        for (const Entry& entry : entries) {
            if (crc32_of(entry.payload) != entry.crc)
                fail_bad_file(member(entry) + " is damaged (its CRC-32 does not match)");
            result.push_back({entry.name, entry.payload});
        }
        return result;
    }

  private:
    [[noreturn]] void not_this_format() const {
        fail_bad_file(path_ + ": not a " + format_ + " (truncated or another format)");
    }

    std::string member(const Entry& entry) const { return path_ + ": member " + shortened(entry.name); }

    void check_names(const std::vector<Entry>& entries) const {
        std::vector<std::string_view> names;
        names.reserve(entries.size());
        for (const Entry& entry : entries) names.push_back(entry.name);
        std::sort(names.begin(), names.end());
        const auto equal = std::adjacent_find(names.begin(), names.end());
        if (equal != names.end()) fail_bad_file(path_ + ": member " + shortened(*equal) + " appears twice");
    }

    // Members that share bytes would let a small file stand for a large one.
    void check_overlaps(const std::vector<Entry>& entries) const {
        std::vector<const Entry*> sorted;
        sorted.reserve(entries.size());
        for (const Entry& entry : entries) sorted.push_back(&entry);
        std::sort(sorted.begin(), sorted.end(),
                  [](const Entry* a, const Entry* b) { return a->offset < b->offset; });
        for (size_t i = 1; i < sorted.size(); ++i)
            if (sorted[i]->offset < sorted[i - 1]->end())
                fail_bad_file(member(*sorted[i]) + " overlaps " + shortened(sorted[i - 1]->name));
    }

    // A CRC covers payloads alone. What is around a payload of ours is known, and stands in two places: where
    // one of them is exactly as ZipWriter writes it, the other must be too. Members of which neither is were
    // added by another program.
    bool is_as_written(const Entry& entry) const {
        if (entry.offset > limit32 || entry.size > limit32) return false;
        const Described ours{entry.name, entry.crc, static_cast<uint32_t>(entry.size),
                             static_cast<uint32_t>(entry.offset)};
        const bool in_directory = entry.raw == directory_entry(ours),
                   at_payload = entry.header == local_header(ours);
        if (in_directory != at_payload)
            fail_bad_file(member(entry) + " is damaged (its header is not what was written)");
        return in_directory;
    }

    void check_as_written(const std::vector<Entry>& entries, const Directory& directory) const {
        bool all = !entries.empty();
        uint64_t at = 0;
        for (const Entry& entry : entries) {
            all &= is_as_written(entry);
            if (all && entry.offset != at) not_this_format();
            at = entry.end();
        }
        const uint64_t end = directory.offset + directory.size;
        if (all &&
            (directory.offset != at || bytes_.substr(end) != end_record(entries.size(), directory.size, at)))
            fail_bad_file(path_ + ": damaged (its directory is not what was written)");
    }

    // The number at `at`, inside the file.
    template <class T>
    T number(uint64_t at) const {
        require(at, sizeof(T));
        return number_at<T>(bytes_, at);
    }

    void require(uint64_t at, uint64_t size) const {
        if (at > bytes_.size() || size > bytes_.size() - at) not_this_format();
    }

    Directory find_directory() const {
        if (bytes_.size() < end_size) not_this_format();
        // The end record is followed by a comment of up to 65535 bytes that reaches to the end of the file.
        const uint64_t last = bytes_.size() - end_size, first = last > limit16 ? last - limit16 : 0;
        for (uint64_t at = last + 1; at-- > first;) {
            if (number<uint32_t>(at) != end_signature || number<uint16_t>(at + 20) != last - at) continue;
            return read_end(at);
        }
        not_this_format();
    }

    Directory read_end(uint64_t at) const {
        Directory directory{number<uint32_t>(at + 16), number<uint32_t>(at + 12), number<uint16_t>(at + 10)};
        const bool zip64 =
            directory.offset == limit32 || directory.size == limit32 || directory.members == limit16;
        if (zip64) {
            if (at < locator64_size || number<uint32_t>(at - locator64_size) != locator64_signature)
                not_this_format();
            const auto end64 = number<uint64_t>(at - locator64_size + 8);
            require(end64, end64_size);
            if (number<uint32_t>(end64) != end64_signature) not_this_format();
            directory = {number<uint64_t>(end64 + 48), number<uint64_t>(end64 + 40),
                         number<uint64_t>(end64 + 32)};
        }
        require(directory.offset, directory.size);
        return directory;
    }

    // Reads the entry at `at` and moves `at` behind it.
    Entry parse_entry(uint64_t& at) const {
        require(at, directory_entry_size);
        if (number<uint32_t>(at) != directory_signature) not_this_format();
        const auto flags = number<uint16_t>(at + 8), method = number<uint16_t>(at + 10);
        const auto name_size = number<uint16_t>(at + 28), extra_size = number<uint16_t>(at + 30);
        const auto comment_size = number<uint16_t>(at + 32);
        Entry entry{.crc = number<uint32_t>(at + 16),
                    .size = number<uint32_t>(at + 24),
                    .stored_size = number<uint32_t>(at + 20),
                    .offset = number<uint32_t>(at + 42)};
        const uint64_t extra_at = at + directory_entry_size + name_size;
        require(at, directory_entry_size + uint64_t{name_size} + extra_size + comment_size);
        entry.name = bytes_.substr(at + directory_entry_size, name_size);
        read_zip64_sizes(entry, extra_at, extra_at + extra_size);
        if (flags & encrypted) fail_bad_file(member(entry) + " is encrypted");
        if (method != 0) fail_bad_file(member(entry) + " is compressed; only stored members are read");
        if (entry.size != entry.stored_size) not_this_format();
        entry.raw = bytes_.substr(at, extra_at + extra_size + comment_size - at);
        at += entry.raw.size();
        return entry;
    }

    // Fields that are all ones in the entry have their value in extra field 1, in this order.
    void read_zip64_sizes(Entry& entry, uint64_t at, uint64_t end) const {
        while (end - at >= 4) {
            const auto id = number<uint16_t>(at), size = number<uint16_t>(at + 2);
            at += 4;
            if (size > end - at) return;
            if (id == 1) {
                uint64_t field = at;
                for (uint64_t* value : {&entry.size, &entry.stored_size, &entry.offset}) {
                    if (*value != limit32) continue;
                    if (at + size - field < 8) not_this_format();
                    *value = number<uint64_t>(field);
                    field += 8;
                }
            }
            at += size;
        }
    }

    void find_payload(Entry& entry, uint64_t directory_offset) const {
        require(entry.offset, local_size);
        if (number<uint32_t>(entry.offset) != local_signature) not_this_format();
        const auto name_size = number<uint16_t>(entry.offset + 26),
                   extra_size = number<uint16_t>(entry.offset + 28);
        require(entry.offset + local_size, name_size);
        if (bytes_.substr(entry.offset + local_size, name_size) != entry.name) not_this_format();
        const uint64_t start = entry.offset + local_size + name_size + extra_size;
        if (start > directory_offset || entry.size > directory_offset - start) not_this_format();
        entry.header = bytes_.substr(entry.offset, start - entry.offset);
        entry.payload = bytes_.substr(start, entry.size);
    }

    std::string_view bytes_;
    const std::string& path_;
    const std::string& format_;
};

}  // namespace

std::vector<ZipMember> read_zip(std::string_view bytes, const std::string& path, const std::string& format) {
    return ZipParser(bytes, path, format).members();
}

}  // namespace sieve
