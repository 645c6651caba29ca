// What loading data says while it works.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace sieve {

enum class DataUnit { bytes, tokens };

// How far one piece of work has come: "reading my.txt", `done` of `total` (0: not known). Called now and then, and at
// the end of each piece with done == total.
using DataProgress = std::function<void(const std::string& what, int64_t done, int64_t total, DataUnit unit)>;

class DataLog {
  public:
    using Line = std::function<void(const std::string& line)>;
    DataLog() = default;
    template <class F>
    DataLog(F line) : line_(std::move(line)) {}  // not explicit: a function of lines is a log of notes
    DataLog(Line line, DataProgress progress) : line_(std::move(line)), progress_(std::move(progress)) {}

    // A note for stderr: that the excerpt is used, that a file is skipped.
    void operator()(const std::string& line) const {
        if (line_) line_(line);
    }
    void progress(const std::string& what, int64_t done, int64_t total,
                  DataUnit unit = DataUnit::bytes) const {
        if (progress_) progress_(what, done, total, unit);
    }

  private:
    Line line_;
    DataProgress progress_;
};

}  // namespace sieve
