// Files that the libraries made here, and files that the programs gzip and zstd made, where they are there.
#include "framework/io/compressed_reader.h"

#include <cstdlib>
#include <filesystem>

#include "framework/core/error.h"
#include "framework/core/rng.h"
#include "framework/io/atomic_file.h"
#include "tests/support/compress.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

std::string all_of(const std::string& path) {
    CompressedReader reader(path);
    std::string text;
    for (std::string_view block = reader.next(); !block.empty(); block = reader.next()) {
        CHECK(text.size() % CompressedReader::block_bytes == 0);  // every block was full
        text += block;
    }
    CHECK(reader.next().empty());
    CHECK(reader.bytes_made() == std::ssize(text));
    CHECK(reader.bytes_read() == static_cast<int64_t>(fs::file_size(path)));
    return text;
}

// Neither all alike nor without any likeness.
std::string some_text(size_t size) {
    std::string text;
    for (uint64_t i = 0; text.size() < size; ++i)
        text += "word" + std::to_string(philox({3, 4}, i).v[0] % 5000) + (i % 11 == 0 ? "\n" : " ");
    text.resize(size);
    return text;
}

struct Packer {
    const char *name, *program;
    std::string (*pack)(std::string_view text);
    Compression compression;
};
const Packer packers[] = {{"gzip", "gzip -c", gzipped, Compression::gzip},
                          {"zstd", "zstd -q -c", zstd_packed, Compression::zstd}};

}  // namespace

TEST_CASE("compressed reader: what was packed, in one part or several") {
    const TemporaryFolder folder;
    const std::string path = folder / "x";
    for (const Packer& packer : packers) {
        INFO(packer.name);
        for (const size_t size : {size_t{0}, size_t{1}, size_t{1000}, (size_t{1} << 20) - 1, size_t{1} << 20,
                                  (size_t{1} << 20) + 1, size_t{5'000'000}}) {
            const std::string text = some_text(size);
            write(path, packer.pack(text));
            CHECK(CompressedReader(path).compression() == packer.compression);
            CHECK(all_of(path) == text);
            write(path, packer.pack(text) + packer.pack("") + packer.pack("the end"));
            CHECK(all_of(path) == text + "the end");
        }
        const std::string alike(20'000'000, 'a');  // a few kilobytes stand for much
        write(path, packer.pack(alike));
        CHECK(fs::file_size(path) < 200'000);
        CHECK(all_of(path) == alike);
    }
    write(path, "as it is");
    CHECK(CompressedReader(path).compression() == Compression::none);
    CHECK(all_of(path) == "as it is");
    write(path, some_text(3 << 20));
    CHECK(all_of(path) == some_text(3 << 20));
    write(path, "");
    CHECK(all_of(path).empty());
}

TEST_CASE("compressed reader: zstd's skippable frames are skipped") {
    const TemporaryFolder folder;
    const std::string skippable("\x50\x2A\x4D\x18\x03\x00\x00\x00???", 11);
    write(folder / "x", zstd_packed("one ") + skippable + zstd_packed("two"));
    CHECK(all_of(folder / "x") == "one two");
    // As pzstd begins its files, and with the last of the magic numbers.
    for (const char first : {'\x50', '\x5F'}) {
        std::string frame = skippable;
        frame[0] = first;
        write(folder / "x", frame + zstd_packed("one ") + frame + zstd_packed("two"));
        CHECK(all_of(folder / "x") == "one two");
    }
    write(folder / "x", "\x60*M\x18 and more text");
    CHECK(all_of(folder / "x") == "\x60*M\x18 and more text");
}

TEST_CASE("compressed reader: damaged, cut off, and followed by something else") {
    const TemporaryFolder folder;
    const std::string path = folder / "x", text = some_text(300'000);
    const auto refused = [&](const std::string& bytes) {
        write(path, bytes);
        try {
            all_of(path);
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::bad_file);
            return std::string(e.what()).substr(path.size());
        }
        return std::string("read");
    };
    for (const Packer& packer : packers) {
        INFO(packer.name);
        const std::string whole = packer.pack(text), data = ": its " + std::string(packer.name) + " data ";
        for (const size_t size :
             {size_t{5}, size_t{12}, whole.size() / 2, whole.size() - 5, whole.size() - 1})
            CHECK(refused(whole.substr(0, size)) == data + "end too early; is the file whole?");
        CHECK(refused(whole + whole.substr(0, whole.size() - 1)) ==
              data + "end too early; is the file whole?");
        CHECK(refused(whole + "garbage") ==
              ": behind its " + std::string(packer.name) + " data other bytes follow; is the file damaged?");
        size_t found = 0;
        for (size_t at = 10; at < whole.size(); at += whole.size() / 50) {
            std::string damaged = whole;
            damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
            const std::string message = refused(damaged);
            found += message != "read";
            CHECK(message.starts_with(": its "));
        }
        CHECK(found > 45);
        std::string wrong_sum = whole;  // the last bytes are a checksum (gzip: of the length)
        wrong_sum[wrong_sum.size() - 6] = static_cast<char>(wrong_sum[wrong_sum.size() - 6] ^ 1);
        CHECK(refused(wrong_sum).starts_with(data + "are damaged"));
    }
    CHECK(refused(gzipped(text) + std::string(512, '\0')) ==
          ": behind its gzip data other bytes follow; is the file damaged?");
}

TEST_CASE("compressed reader: a zstd window that is out of proportion is refused") {
    const TemporaryFolder folder;
    // A frame header that asks for a window of 2 GiB, and one empty block.
    const std::string path = folder / "x", greedy("\x28\xB5\x2F\xFD\x00\xA8\x01\x00\x00", 9);
    write(path, greedy);
    check_error(
        path +
            ": its zstd window is larger than a file of this size may ask for; unpack it first: zstd -d "
            "-M2048MB " +
            path,
        [&] { all_of(path); });
}

TEST_CASE("compressed reader: what the programs gzip and zstd write") {
    const TemporaryFolder folder;
    const std::string plain = folder / "plain", path = folder / "packed", text = some_text(3'000'000);
    write(plain, text);
    for (const Packer& packer : packers) {
        if (std::system(("command -v " + std::string(packer.name) + " > /dev/null").c_str()) != 0) {
            MESSAGE("skipped: no program " << packer.name);
            continue;
        }
        const auto run = [&](const std::string& options, const char* redirect) {
            const std::string command =
                std::string(packer.program) + options + " '" + plain + "' " + redirect + " '" + path + "'";
            REQUIRE(std::system(command.c_str()) == 0);
        };
        for (const char* options : {" -1", " -9"}) {
            run(options, ">");
            CHECK(all_of(path) == text);
            run(options, ">>");
            CHECK(all_of(path) == text + text);
        }
        const std::string whole = read_file(path);
        write(path, whole.substr(0, whole.size() - 100));
        CHECK_THROWS_AS(all_of(path), Error);
        fs::remove(path);
    }
}
