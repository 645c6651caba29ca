#include "framework/io/mapped_file.h"

#include <sys/resource.h>

#include <filesystem>
#include <memory>
#include <vector>

#include "framework/core/error.h"
#include "framework/core/system_files.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

int64_t resident_file_bytes() {
    return number_after("RssFile:", system_text("/proc/self/status")) << 10;
}

int64_t sum(std::string_view bytes) {
    int64_t total = 0;
    for (const char c : bytes) total += c;
    return total;
}

}  // namespace

TEST_CASE("mapped file: its bytes, and errors") {
    const TemporaryFolder folder;
    write(folder / "x", "some bytes");
    write(folder / "empty", "");
    CHECK(MappedFile(folder / "x").bytes() == "some bytes");
    const MappedFile empty(folder / "empty");
    CHECK(empty.bytes().empty());
    empty.check_unchanged();
    CHECK(!empty.is_lost());
    check_error((folder / "none") + ": cannot read: No such file or directory",
                [&] { MappedFile(folder / "none"); });
    check_error(folder.path().string() + ": cannot read: it is no regular file",
                [&] { MappedFile(folder.path()); });
    check_error("/dev/null: cannot read: it is no regular file", [] { MappedFile("/dev/null"); });
    CHECK(MappedFile::count() == 0);
}

TEST_CASE("mapped file: what is released takes no memory until it is read again") {
    const TemporaryFolder folder;
    const size_t size = 32 << 20;
    write(folder / "x", std::string(size, 'a'));
    const MappedFile file(folder / "x");
    const int64_t before = resident_file_bytes();
    REQUIRE(sum(file.bytes()) == static_cast<int64_t>(size) * 'a');
    CHECK(resident_file_bytes() - before > int64_t{30} << 20);
    file.release(file.bytes().substr(100, size - 200));
    CHECK(resident_file_bytes() - before < int64_t{2} << 20);
    CHECK(sum(file.bytes()) == static_cast<int64_t>(size) * 'a');
    for (size_t at = 0; at < size; at += 1 << 20) {
        sum(file.bytes().substr(at, 1 << 20));
        file.release(file.bytes().substr(at, 1 << 20));
    }
    CHECK(resident_file_bytes() - before < int64_t{2} << 20);
}

TEST_CASE("mapped file: one that becomes shorter ends no program, and is named") {
    const TemporaryFolder folder;
    const std::string path = folder / "x", other = folder / "y";
    write(path, std::string(1 << 20, 'a'));
    write(other, std::string(1 << 20, 'b'));
    const MappedFile file(path), fine(other);
    CHECK(file.bytes()[(1 << 20) - 1] == 'a');
    file.release(file.bytes());
    fs::resize_file(path, 5000);
    CHECK(file.bytes()[0] == 'a');
    CHECK(file.bytes()[4999] == 'a');
    CHECK(!file.is_lost());
    CHECK(file.bytes()[500000] == '\0');  // SIGBUS, but for the handler
    CHECK(file.bytes()[(1 << 20) - 1] == '\0');
    CHECK(file.is_lost());
    check_error(path + ": changed while it was read; start again when nothing writes to it",
                [&] { file.check_unchanged(); });
    fs::remove(path);
    check_error(path + ": became shorter while it was read, or its disk failed",
                [&] { file.check_unchanged(); });
    CHECK(!fine.is_lost());
    CHECK(sum(fine.bytes()) == (1 << 20) * 'b');
    fine.check_unchanged();
    CHECK(MappedFile::count() == 2);
}

TEST_CASE("mapped file: one that is written to is named; one that is replaced or removed is still there") {
    const TemporaryFolder folder;
    const std::string path = folder / "x";
    write(path, "one text");
    {
        const MappedFile file(path);
        fs::last_write_time(path, fs::last_write_time(path) - std::chrono::seconds(5));
        check_error(path + ": changed while it was read; start again when nothing writes to it",
                    [&] { file.check_unchanged(); });
    }
    const MappedFile file(path);
    write(folder / "new", "another text");
    fs::rename(folder / "new", path);
    file.check_unchanged();
    CHECK(file.bytes() == "one text");
    fs::remove(path);
    file.check_unchanged();
    CHECK(file.bytes() == "one text");
}

TEST_CASE("mapped file: places in the table are used again") {
    const TemporaryFolder folder;
    write(folder / "x", "text");
    for (int64_t i = 0; i < MappedFile::most + 10; ++i) CHECK_NOTHROW(MappedFile(folder / "x"));
    std::vector<std::unique_ptr<MappedFile>> files;
    while (std::ssize(files) < MappedFile::most) files.push_back(std::make_unique<MappedFile>(folder / "x"));
    check_error((folder / "x") + ": more than 16384 files are mapped", [&] { MappedFile(folder / "x"); });
    files.pop_back();
    CHECK(MappedFile(folder / "x").bytes() == "text");
}
