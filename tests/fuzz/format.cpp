#include "tests/fuzz/format.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "framework/io/atomic_file.h"
#include "tests/support/temporary_folder.h"

namespace sieve::fuzz {
namespace {

std::vector<Format>& registered() {
    static std::vector<Format> all;
    return all;
}

const testing::TemporaryFolder& scratch() {
    static const testing::TemporaryFolder folder = [] {
        if (std::filesystem::is_directory("/dev/shm")) ::setenv("TMPDIR", "/dev/shm", 0);
        return testing::TemporaryFolder();
    }();
    return folder;
}

}  // namespace

std::vector<Format> formats() {
    std::vector<Format> sorted = registered();
    std::sort(sorted.begin(), sorted.end(), [](const Format& a, const Format& b) { return a.name < b.name; });
    return sorted;
}

RegisteredFormat::RegisteredFormat(Format format) {
    registered().push_back(std::move(format));
}

std::string repeated(std::string_view part, size_t times) {
    std::string all;
    all.reserve(part.size() * times);
    for (size_t i = 0; i < times; ++i) all += part;
    return all;
}

void expect(bool holds, const char* what) {
    if (!holds) throw std::logic_error(what);
}

std::string scratch_folder() {
    return scratch().path().string();
}

std::string scratch_file(const std::string& name, std::string_view bytes) {
    const std::string path = scratch() / name;
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path;
}

std::string bytes_of_file(const std::string& path) {
    return read_file(path);
}

}  // namespace sieve::fuzz
