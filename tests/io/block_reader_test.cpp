#include "framework/io/block_reader.h"

#include "framework/io/atomic_file.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("block_reader: the blocks joined are the file") {
    const TemporaryFolder folder;
    constexpr size_t block = BlockReader::block_bytes;
    for (const size_t size : {size_t{0}, size_t{1}, block - 1, block, block + 1, 2 * block + 5}) {
        std::string bytes;
        for (size_t i = 0; i < size; ++i) bytes += static_cast<char>(i * i >> 3);
        write_file_atomic(folder / "x", bytes);
        BlockReader reader(folder / "x");
        CHECK(reader.file_bytes() == static_cast<int64_t>(size));
        std::string joined;
        for (std::string_view next = reader.next(); !next.empty(); next = reader.next()) joined += next;
        CHECK(joined == bytes);
        CHECK(reader.bytes_read() == static_cast<int64_t>(size));
        CHECK(read_small_file(folder / "x", size) == bytes);
        if (size > 0)
            check_error((folder / "x") + ": more than " + std::to_string(size - 1) + " bytes",
                        [&] { read_small_file(folder / "x", size - 1); });
    }
}

TEST_CASE("block_reader: what cannot be read says so, and a device without end is no trap") {
    const TemporaryFolder folder;
    check_error((folder / "none") + ": cannot read: No such file or directory",
                [&] { BlockReader reader(folder / "none"); });
    check_error(folder.path().string() + ": cannot read: it is a folder",
                [&] { BlockReader reader(folder.path()); });
    CHECK(!BlockReader("/dev/zero").file_bytes());
    check_error("/dev/zero: more than 1000 bytes", [] { read_small_file("/dev/zero", 1000); });
}
