#include "framework/io/atomic_file.h"

#include <sys/stat.h>

#include "framework/core/error.h"
#include "framework/io/append_file.h"
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

namespace {

// Lets the first, second, ... step of `work` fail until there is none to fail; after each failure `check`
// runs. Returns how many there were.
int fail_each_step(const FileFault& fault, const std::string& message, const std::function<void()>& work,
                   const std::function<void()>& check) {
    for (int n = 1; n < 20; ++n) {
        fail_file_step_after(n, fault);
        std::string thrown;
        try {
            work();
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::bad_file);
            thrown = e.what();
        }
        fail_file_step_after(0);
        if (thrown.empty()) return n - 1;
        CHECK(thrown == message);
        check();
    }
    return 20;
}

}  // namespace

TEST_CASE(
    "atomic_file: whichever step fails for whatever reason, the old file is whole and nothing is left over") {
    const TemporaryFolder folder;
    const std::string path = folder / "x";
    const std::string_view pieces[] = {"new ", "bytes"};
    struct Case {
        FileStep step;
        int steps;
    };
    for (const auto& [error, reason] :
         {std::pair{EIO, "Input/output error"}, std::pair{ENOSPC, "No space left on device"},
          std::pair{EFBIG, "File too large"}, std::pair{EDQUOT, "Disk quota exceeded"}})
        for (const bool torn : {false, true})
            for (const Case& c : {Case{FileStep::any, 6}, Case{FileStep::open, 1}, Case{FileStep::write, 2},
                                  Case{FileStep::fsync, 1}, Case{FileStep::close, 1},
                                  Case{FileStep::rename, 1}, Case{FileStep::mkdir, 0}}) {
                write_file_atomic(path, "old");
                const int steps = fail_each_step(
                    {.step = c.step, .error = error, .torn = torn}, path + ": cannot write: " + reason,
                    [&] { write_file_atomic(path, pieces); },
                    [&] {
                        CHECK(read_file(path) == "old");
                        CHECK(files_in(folder.path()) == 1);
                    });
                CHECK(steps == c.steps);
                CHECK(read_file(path) == "new bytes");
            }
}

TEST_CASE("atomic_file: what the system interrupts, or takes only a part of, goes on") {
    const TemporaryFolder folder;
    const std::string path = folder / "x";
    const auto none = [] { FAIL("a step failed"); };
    for (int n = 1; n <= 8; ++n) {
        fail_file_step_after(n, {.step = FileStep::write, .error = 0, .torn = true});
        write_file_atomic(path, "all of these bytes");
        CHECK(read_file(path) == "all of these bytes");
        AppendFile file(folder / "log");
        file.append("a line\n");
    }
    for (const FileStep step : {FileStep::open, FileStep::write, FileStep::fsync, FileStep::close})
        CHECK(fail_each_step(
                  {.step = step, .error = EINTR}, "", [&] { write_file_atomic(path, "again"); }, none) == 0);
    CHECK(read_file(path) == "again");
    CHECK(read_file(folder / "log") == "a line\na line\na line\na line\na line\na line\na line\na line\n");
    fail_file_step_after(0);
}

TEST_CASE("append_file: a record that did not fit leaves nothing before the next one") {
    const TemporaryFolder folder;
    const std::string path = folder / "log";
    const std::string message = path + ": cannot write: No space left on device";
    for (const bool torn : {false, true}) {
        std::filesystem::remove(path);
        AppendFile file(path);
        file.append("one\n");
        const int writes = fail_each_step(
            {.step = FileStep::write, .error = ENOSPC, .torn = torn}, message, [&] { file.append("two\n"); },
            [&] { CHECK(read_file(path) == "one\n"); });
        CHECK(writes == 1);
        file.append("three\n");
        CHECK(read_file(path) == "one\ntwo\nthree\n");
        CHECK(fail_each_step(
                  {.step = FileStep::fsync, .error = ENOSPC}, message, [&] { file.sync(); }, [] {}) == 1);
        CHECK(read_file(path) == "one\ntwo\nthree\n");
    }
    CHECK(fail_each_step(
              {.step = FileStep::open, .error = ENOSPC}, message, [&] { AppendFile file(path); }, [] {}) ==
          1);
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
    check_error("/dev/zero: cannot read: no end after 256 MiB, and it is no regular file",
                [] { read_file("/dev/zero"); });
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
    const std::string deep = folder / "b/c/d";
    const int made = fail_each_step(
        {.step = FileStep::mkdir, .error = ENOSPC},
        deep + ": cannot make this folder: No space left on device", [&] { make_folder(deep); },
        [&] { CHECK(!std::filesystem::exists(deep)); });
    CHECK(made == 2);  // the first try failed at b, the second made b and failed at c, the third made both
    CHECK(std::filesystem::is_directory(deep));
    check_error(folder / std::string(300, 'x') + ": cannot make this folder: File name too long",
                [&] { make_folder(folder / std::string(300, 'x')); });
    CHECK_THROWS_AS(make_folder("/proc/sieve"), Error);
    CHECK_THROWS_AS(make_folder("/proc/sys"), Error);
}

TEST_CASE("crc32: the standard check value") {
    CHECK(crc32_of("123456789") == 0xCBF43926u);
    CHECK(crc32_of("") == 0u);
}
