// What a person sees while a model trains: one line that updates on a terminal, plain lines now and then in a
// pipe.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "framework/data/data_log.h"

namespace sieve {

std::string human_time(double seconds);  // "41 s", "12 min 5 s", "3 h 20 min"
std::string human_bytes(int64_t bytes);  // "512 KiB", "1.4 GiB"
std::string human_count(int64_t count);  // "9.1 M"

// `format` holds one number, such as "perplexity {:.2f}". One that would have nine digits or more before its
// point is written as 1.2e+228, so that tables hold it.
std::string number_text(const std::string& format, double value);

struct StepReport {
    int64_t step, steps;
    double loss, learning_rate, grad_norm, tokens_per_second;
    double val_loss;      // NaN until the first evaluation
    double seconds_left;  // of the whole run
};

// One line of at most `columns` characters: what does not fit is left out, the least important first.
std::string progress_line(const std::string& stage, const StepReport& report, size_t columns);

struct LoadingReport {
    int64_t done, total;  // total 0: not known
    double rate;          // of what is done, a second
    DataUnit unit = DataUnit::bytes;
};

// "encoding my.txt: 41 %, 52 MB/s, ETA 3 s"
std::string loading_line(const std::string& what, const LoadingReport& report);

// For load_dataset: notes as lines on stderr, and work that takes longer than a second as a line that is
// updated on a terminal, as plain lines now and then in a pipe.
DataLog loading_log();

class Progress {
  public:
    Progress(std::string stage, bool quiet);
    ~Progress();  // ends a line that is being updated
    void step(const StepReport& report);
    void line(const std::string& text);  // a lasting line, such as an evaluation's

  private:
    std::string stage_;
    bool terminal_, quiet_;
    bool open_line_ = false;
    std::chrono::steady_clock::time_point last_;
};

}  // namespace sieve
