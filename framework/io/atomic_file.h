// Whole-file reading and writing. A file appears under its name complete or not at all: the bytes go to a
// temporary file in the same folder, are flushed to the disk, and take the name by rename(2). On any failure
// the old file stays as it was, the temporary one is removed, and Error(bad_file) names the path and the
// system's reason.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace sieve {

void write_file_atomic(const std::filesystem::path& path, std::string_view bytes);
// The pieces one after the other: large payloads need not be copied into one string first.
void write_file_atomic(const std::filesystem::path& path, std::span<const std::string_view> pieces);

std::string read_file(const std::filesystem::path& path);

// Makes the folder and its parents; throws unless files can be created in it.
void make_folder(const std::filesystem::path& path);

// Test hook: the n-th step of writing a file from now fails with EIO (1: the next one; 0: none).
void fail_file_step_after(int64_t n);

}  // namespace sieve
