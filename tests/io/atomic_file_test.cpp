#include "framework/io/atomic_file.h"

#include <sys/stat.h>

#include "framework/core/error.h"
#include "framework/io/crc32.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

size_t files_in(const std::filesystem::path& folder) {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
    return count;
}

}  // namespace

TEST_CASE("atomic_file: what was written is read back") {
    const TemporaryFolder folder;
    for (const size_t size : {0, 1, 4095, 4096, 100000}) {
        std::string bytes(size, '\0');
        for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31 + size);
        write_file_atomic(folder / "x", bytes);
        CHECK(read_file(folder / "x") == bytes);
    }
    const std::string_view pieces[] = {"one ", "", "two"};
    write_file_atomic(folder / "x", pieces);
    CHECK(read_file(folder / "x") == "one two");
    CHECK(files_in(folder.path()) == 1);
    CHECK(!read_file("/proc/self/status").empty());
}

TEST_CASE("atomic_file: whichever step fails, the old file is whole and nothing is left over") {
    const TemporaryFolder folder;
    const std::string path = folder / "x";
    write_file_atomic(path, "old");
    const std::string_view pieces[] = {"new ", "bytes"};
    int steps = 0;
    for (int n = 1; n < 20; ++n) {
        fail_file_step_after(n);
        bool failed = false;
        try {
            write_file_atomic(path, pieces);
        } catch (const Error& e) {
            failed = true;
            CHECK(e.kind() == ErrorKind::bad_file);
            CHECK(std::string(e.what()) == path + ": cannot write: Input/output error");
        }
        fail_file_step_after(0);
        CHECK(files_in(folder.path()) == 1);
        if (!failed) break;
        CHECK(read_file(path) == "old");
        ++steps;
    }
    CHECK(steps == 6);  // open, two writes, fsync, close, rename
    CHECK(read_file(path) == "new bytes");
}

TEST_CASE("atomic_file: errors name the path and the reason") {
    const TemporaryFolder folder;
    check_error(folder / "none/x" + ": cannot write: No such file or directory",
                [&] { write_file_atomic(folder / "none/x", "y"); });
    check_error(folder / "none" + ": cannot read: No such file or directory",
                [&] { read_file(folder / "none"); });
    check_error(folder / "" + ": cannot read: it is a folder", [&] { read_file(folder / ""); });
    std::filesystem::create_directory(folder.path() / "sub");
    check_error(folder / "sub" + ": cannot write: Is a directory",
                [&] { write_file_atomic(folder / "sub", "y"); });
    CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("make_folder: parents too; a file in the way and a read-only place are errors") {
    const TemporaryFolder folder;
    make_folder(folder / "a/b/c");
    make_folder(folder / "a/b/c");
    CHECK(std::filesystem::is_directory(folder / "a/b/c"));
    write_file_atomic(folder / "file", "");
    check_error(folder / "file" + ": cannot make this folder: Not a directory",
                [&] { make_folder(folder / "file"); });
    check_error(folder / "file/sub" + ": cannot make this folder: Not a directory",
                [&] { make_folder(folder / "file/sub"); });
    CHECK_THROWS_AS(make_folder("/proc/sieve"), Error);
    CHECK_THROWS_AS(make_folder("/proc/sys"), Error);
}

TEST_CASE("crc32: the standard check value") {
    CHECK(crc32_of("123456789") == 0xCBF43926u);
    CHECK(crc32_of("") == 0u);
}
