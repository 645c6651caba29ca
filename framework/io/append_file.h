// A log file that grows record by record. Each record is handed to the system in one write: whoever reads
// along, or looks after the program was killed, finds whole records (but for a full disk, or a power cut before sync).
#pragma once

#include <filesystem>
#include <string_view>

namespace sieve {

class AppendFile {
  public:
    // Opens at the end of the file, which is made when it is missing. Throws Error(bad_file).
    explicit AppendFile(const std::filesystem::path& path);
    ~AppendFile();
    AppendFile(const AppendFile&) = delete;
    AppendFile& operator=(const AppendFile&) = delete;

    void append(std::string_view record);
    // Waits until every record lies on the disk: after a power cut they are there. Throws Error(bad_file).
    void sync();

  private:
    std::filesystem::path path_;
    int fd_;
};

}  // namespace sieve
