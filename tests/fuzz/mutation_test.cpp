// Mutates valid files of every format, and demands of each reading that it ends: with a result or an Error,
// within a second, with no more memory than twice the file and 64 MB. Attacks and the files of the corpus are
// read too. In quick form 300 mutations a format; 10,000 when SIEVE_FULL is set. Usage: mutation_tests
// [FORMAT]...
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "framework/core/error.h"
#include "tests/fuzz/format.h"
#include "tests/fuzz/memory_meter.h"
#include "tests/fuzz/mutate.h"
#include "tests/support/sanitized.h"
#include "tests/support/source_dir.h"

namespace sieve::fuzz {
namespace {

#ifdef SIEVE_SANITIZED
constexpr double most_seconds = 5;  // sanitizers take a multiple of the time
#else
constexpr double most_seconds = 1;
#endif
constexpr int64_t allowance = 64'000'000;
constexpr unsigned hang_seconds = 30;  // of the clock, where others may use the processor too

const bool full = std::getenv("SIEVE_FULL") != nullptr;

char hanging[256];  // says what is being read

void on_alarm(int) {
    const char* const words[] = {hanging, ": no end\n0 passed, 1 failed\n"};
    for (const char* text : words)
        if (::write(STDOUT_FILENO, text, std::char_traits<char>::length(text)) < 0) break;
    ::_exit(1);
}

double processor_seconds() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct Reading {
    bool refused = false;
    std::string fault;  // empty: none
    double seconds = 0;
    int64_t memory = 0;
};

Reading read(const Format& format, const std::string& input, const std::string& what) {
    Reading reading;
    hanging[what.copy(hanging, sizeof hanging - 1)] = '\0';
    ::alarm(hang_seconds);
    const MemoryMeter meter;
    const double start = processor_seconds();
    try {
        format.read(input);
    } catch (const Error& e) {
        reading.refused = true;
        if (e.kind() == ErrorKind::failure)
            reading.fault = fmt::format("refused as a mistake of the program: {}", e.what());
    } catch (const std::exception& e) {
        reading.fault = e.what();
    }
    reading.seconds = processor_seconds() - start;
    reading.memory = meter.peak();
    ::alarm(0);
    if (reading.seconds > most_seconds) reading.fault = fmt::format("took {:.2f} s", reading.seconds);
    if (reading.memory > 2 * static_cast<int64_t>(input.size()) + allowance)
        reading.fault = fmt::format("took {:.1f} MB for {} bytes", 1e-6 * static_cast<double>(reading.memory),
                                    input.size());
    return reading;
}

// Whether all was well; prints what was not.
class FormatTest {
  public:
    explicit FormatTest(const Format& format) : format_(format) {}

    bool run(size_t mutations) {
        std::vector<std::string> samples = format_.samples();
        for (const std::string& sample : samples)
            if (note(sample, "a valid sample").refused) fault(sample, "a valid sample", "refused");
        for (const std::string& file : corpus()) {
            samples.push_back(bytes_of_file(file));
            note(samples.back(), file);
        }
        if (format_.finds_every_flip) flip_bits(samples.front());
        const std::vector<std::string> attacks =
            format_.attacks ? format_.attacks() : std::vector<std::string>();
        for (size_t i = 0; i < attacks.size(); ++i)
            note(attacks[i], fmt::format("{}: attack {}", format_.name, i));
        size_t refused = 0;
        for (size_t i = 0; i < mutations; ++i)
            refused += note(mutated(samples, i), fmt::format("{}: mutation {}", format_.name, i)).refused;
        fmt::print(
            "{}: {} mutations of {} files, {} refused, {} attacks, at most {:.1f} ms and {:.2f} MB, {} "
            "faults\n",
            format_.name, mutations, samples.size(), refused, attacks.size(), 1e3 * slowest_,
            1e-6 * static_cast<double>(most_memory_), faults_);
        std::fflush(stdout);
        return faults_ == 0;
    }

  private:
    // One bit of each byte, or all in the full form; and the file cut off after each byte.
    void flip_bits(const std::string& whole) {
        const int step = full ? 1 : 8;
        size_t flips = 0, found = 0;
        for (size_t at = 0; at < whole.size(); ++at) {
            for (int bit = static_cast<int>(at % 8) % step; bit < 8; bit += step, ++flips) {
                std::string flipped = whole;
                flipped[at] = static_cast<char>(flipped[at] ^ 1 << bit);
                found += expect_refused(flipped, fmt::format("{}: bit {} of byte {}", format_.name, bit, at));
            }
            expect_refused(whole.substr(0, at), fmt::format("{}: cut off at byte {}", format_.name, at));
        }
        fmt::print("{}: {} of {} flipped bits of a file of {} bytes found, and {} truncations\n",
                   format_.name, found, flips, whole.size(), whole.size());
    }

    bool expect_refused(const std::string& input, const std::string& what) {
        const bool refused = note(input, what).refused;
        if (!refused) fault(input, what, "not found");
        return refused;
    }

    std::vector<std::string> corpus() const {
        std::vector<std::string> files;
        std::error_code code;
        for (const auto& entry : std::filesystem::directory_iterator(
                 testing::source_dir() + "/tests/fuzz/corpus/" + format_.name, code))
            files.push_back(entry.path().string());
        std::sort(files.begin(), files.end());
        return files;
    }

    Reading note(const std::string& input, const std::string& what) {
        const Reading reading = read(format_, input, what);
        slowest_ = std::max(slowest_, reading.seconds);
        most_memory_ = std::max(most_memory_, reading.memory);
        if (!reading.fault.empty()) fault(input, what, reading.fault);
        return reading;
    }

    void fault(const std::string& input, const std::string& what, const std::string& fault) {
        const std::string file = fmt::format(
            "{}/fault-{}-{}", std::filesystem::temp_directory_path().string(), format_.name, faults_++);
        std::ofstream(file, std::ios::binary) << input;
        fmt::print("{}: {}; kept as {}\n", what, fault, file);
    }

    const Format& format_;
    double slowest_ = 0;
    int64_t most_memory_ = 0;
    int faults_ = 0;
};

}  // namespace
}  // namespace sieve::fuzz

int main(int argc, char** argv) {
    using namespace sieve::fuzz;
    std::signal(SIGALRM, on_alarm);
    const std::vector<std::string> wanted(argv + 1, argv + argc);
    const size_t mutations = full ? 10'000 : 300;
    int passed = 0, failed = 0;
    for (const Format& format : formats()) {
        if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), format.name) == wanted.end()) continue;
        (FormatTest(format).run(mutations) ? passed : failed) += 1;
    }
    fmt::print("{} passed, {} failed\n", passed, failed);
    return failed != 0 || passed == 0 ? 1 : 0;
}
