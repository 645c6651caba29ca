// Where the text of a corpus lies: in files as memory (io/mapped_file.h), of which only what is being read needs to be
// in the machine's memory, or in strings.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/data/data_log.h"
#include "framework/io/mapped_file.h"

namespace sieve {

class TextStore {
  public:
    // Both return what they keep; its place does not change.
    std::string_view add(std::string text);
    std::string_view add(std::unique_ptr<const MappedFile> file);

    // The file in which this part of one of the texts lies; null where it lies in a string.
    const MappedFile* file_of(std::string_view part) const;
    // Throws Error(bad_file) when a file is not what it was: what was made of its text must not be used.
    void check_unchanged() const;

  private:
    std::deque<std::string> strings_;
    std::map<const char*, std::unique_ptr<const MappedFile>> files_;  // by where they begin
};

// Gives back the memory of parts of the texts that were passed, in whatever order they come.
class TextRelease {
  public:
    explicit TextRelease(const TextStore& store) : store_(store) {}
    void passed(std::string_view part);

  private:
    const TextStore& store_;
    std::vector<const MappedFile*> files_;  // in which parts lie that were passed since the last release
    uintptr_t end_ = 0;  // of what the kernel read for the last part, with what is around it
    size_t bytes_ = 0;   // of all of it
};

// Passes on what is reported of reading these texts from the first to the last, and gives back the memory of what was
// passed: so a pass over a text that is larger than memory keeps but a little of it there. Store, texts and log must
// outlive the result.
DataLog releasing(const TextStore& store, std::span<const std::string_view> texts, const DataLog& log);

}  // namespace sieve
