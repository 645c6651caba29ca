#include "framework/io/zip.h"

#include <set>

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

// The part that a local header and a directory entry have in common.
std::string common_fields(const std::string& name, uint32_t crc, uint32_t size, uint16_t extra_size) {
    std::string bytes;
    append_number(bytes, version_needed);
    append_number(bytes, utf8_names);
    append_number(bytes, uint16_t{0});  // stored
    append_number(bytes, uint16_t{0});  // time
    append_number(bytes, date_1980);
    append_number(bytes, crc);
    append_number(bytes, size);
    append_number(bytes, size);
    append_number(bytes, static_cast<uint16_t>(name.size()));
    append_number(bytes, extra_size);
    return bytes;
}

}  // namespace

ZipWriter::ZipWriter(std::filesystem::path path, uint32_t alignment)
    : path_(std::move(path)), alignment_(alignment) {}

void ZipWriter::add(const std::string& name, std::string_view payload) {
    if (name.size() > limit16) fail("zip: a member name of " + std::to_string(name.size()) + " bytes");
    // An extra field has 4 bytes of its own before its padding.
    const uint64_t unpadded = offset_ + local_size + name.size() + 4;
    const auto padding = static_cast<uint16_t>((alignment_ - unpadded % alignment_) % alignment_);
    const auto offset = static_cast<uint32_t>(offset_);
    const uint64_t after = unpadded + padding + payload.size();
    if (after > limit32 || members_ == limit16 - 1)
        fail_bad_file(path_.string() + ": cannot write: more than 4 GiB or 65534 members in one zip archive");
    const uint32_t crc = crc32_of(payload);
    const auto size = static_cast<uint32_t>(payload.size());

    std::string header;
    append_number(header, local_signature);
    header += common_fields(name, crc, size, static_cast<uint16_t>(4 + padding)) + name;
    append_number(header, padding_field);
    append_number(header, padding);
    header.append(padding, 'Z');
    owned_.push_back(std::move(header));
    pieces_.push_back(owned_.back());
    pieces_.push_back(payload);

    append_number(directory_, directory_signature);
    append_number(directory_, version_needed);  // made by
    directory_ += common_fields(name, crc, size, 0);
    directory_.append(10, '\0');  // no comment, disk 0, no attributes
    append_number(directory_, offset);
    directory_ += name;
    offset_ = after;
    ++members_;
}

void ZipWriter::add_owned(const std::string& name, std::string payload) {
    owned_.push_back(std::move(payload));
    add(name, owned_.back());
}

void ZipWriter::write() {
    if (offset_ + directory_.size() > limit32)
        fail_bad_file(path_.string() + ": cannot write: more than 4 GiB in one zip archive");
    std::string end;
    append_number(end, end_signature);
    append_number(end, uint32_t{0});  // this disk, the directory's disk
    append_number(end, static_cast<uint16_t>(members_));
    append_number(end, static_cast<uint16_t>(members_));
    append_number(end, static_cast<uint32_t>(directory_.size()));
    append_number(end, static_cast<uint32_t>(offset_));
    append_number(end, uint16_t{0});  // no comment
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
    std::string name;
    uint32_t crc = 0;
    uint64_t size = 0, stored_size = 0, offset = 0;
};

class ZipParser {
  public:
    ZipParser(std::string_view bytes, const std::string& path, const std::string& format)
        : bytes_(bytes), path_(path), format_(format) {}

    std::vector<ZipMember> members() {
        const Directory directory = find_directory();
        std::vector<ZipMember> result;
        std::set<std::string> names;
        uint64_t at = directory.offset;
        for (uint64_t i = 0; i < directory.members; ++i) {
            const Entry entry = parse_entry(at);
            if (!names.insert(entry.name).second)
                fail_bad_file(path_ + ": member " + entry.name + " appears twice");
            result.push_back({entry.name, payload_of(entry, directory.offset)});
        }
        if (at != directory.offset + directory.size) not_this_format();
        return result;
    }

  private:
    [[noreturn]] void not_this_format() const {
        fail_bad_file(path_ + ": not a " + format_ + " (truncated or another format)");
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
        if (flags & encrypted) fail_bad_file(path_ + ": member " + entry.name + " is encrypted");
        if (method != 0)
            fail_bad_file(path_ + ": member " + entry.name + " is compressed; only stored members are read");
        if (entry.size != entry.stored_size) not_this_format();
        at = extra_at + extra_size + comment_size;
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

    std::string_view payload_of(const Entry& entry, uint64_t directory_offset) const {
        require(entry.offset, local_size);
        if (number<uint32_t>(entry.offset) != local_signature) not_this_format();
        const auto name_size = number<uint16_t>(entry.offset + 26),
                   extra_size = number<uint16_t>(entry.offset + 28);
        require(entry.offset + local_size, name_size);
        if (bytes_.substr(entry.offset + local_size, name_size) != entry.name) not_this_format();
        const uint64_t start = entry.offset + local_size + name_size + extra_size;
        if (start > directory_offset || entry.size > directory_offset - start) not_this_format();
        const std::string_view payload = bytes_.substr(start, entry.size);
        if (crc32_of(payload) != entry.crc)
            fail_bad_file(path_ + ": member " + entry.name + " is damaged (its CRC-32 does not match)");
        return payload;
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
