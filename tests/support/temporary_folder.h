// A folder for one test's files, removed when the test ends.
#pragma once

#include <filesystem>
#include <string>

namespace sieve::testing {

class TemporaryFolder {
  public:
    TemporaryFolder();
    ~TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    const std::filesystem::path& path() const { return path_; }
    std::string operator/(const std::string& name) const { return (path_ / name).string(); }

  private:
    std::filesystem::path path_;
};

// Writes these bytes to a file, and makes the folders above it.
void write(const std::string& path, const std::string& bytes);

}  // namespace sieve::testing
