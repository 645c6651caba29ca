#include "framework/program/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <vector>

namespace sieve {
namespace {

const std::string clear_line = "\r\x1b[2K";

// Room on the terminal's line beside the ^C that it shows when the key is pressed, which would wrap the line.
// Asked for each line, because a window is resized.
size_t free_columns(int fd) {
    constexpr size_t usual = 80, key = 3;
    winsize window{};
    const bool known = ioctl(fd, TIOCGWINSZ, &window) == 0 && window.ws_col > 0;
    const size_t columns = known ? window.ws_col : usual;
    return columns > key ? columns - key : 1;
}

}  // namespace

std::string human_time(double seconds) {
    const auto whole = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
    if (whole < 60) return fmt::format("{} s", whole);
    if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
    return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::string human_bytes(int64_t bytes) {
    if (bytes < 1 << 20) return fmt::format("{} KiB", (bytes + 1023) >> 10);
    if (bytes < 1 << 30) return fmt::format("{:.0f} MiB", static_cast<double>(bytes) / (1 << 20));
    return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (1 << 30));
}

std::string human_count(int64_t count) {
    if (count < 10000) return fmt::format("{}", count);
    if (count < 1000000) return fmt::format("{:.1f} k", static_cast<double>(count) / 1e3);
    if (count < 1000000000) return fmt::format("{:.2f} M", static_cast<double>(count) / 1e6);
    return fmt::format("{:.2f} G", static_cast<double>(count) / 1e9);
}

std::string number_text(const std::string& format, double value) {
    std::string fitting = format;
    if (std::isfinite(value) && std::abs(value) >= 1e8) {
        const size_t begin = fitting.find('{'), end = fitting.find('}');
        const bool sign = fitting.substr(begin, end - begin).find('+') != std::string::npos;
        fitting.replace(begin, end - begin + 1, sign ? "{:+.1e}" : "{:.1e}");
    }
    return fmt::format(fmt::runtime(fitting), value);
}

std::string progress_line(const std::string& stage, const StepReport& r, size_t columns) {
    struct Field {
        std::string text;
        int importance;
    };
    std::vector<Field> fields{{fmt::format("{} {}/{}", stage, r.step, r.steps), 6},
                              {number_text(" | loss {:.4f}", r.loss), 4},
                              {std::isnan(r.val_loss) ? "" : number_text(" | val {:.4f}", r.val_loss), 3},
                              {fmt::format(" | lr {:.2e}", r.learning_rate), 1},
                              {number_text(" | grad {:.2f}", r.grad_norm), 0},
                              {number_text(" | {:.0f} tok/s", r.tokens_per_second), 2},
                              {fmt::format(" | ETA {}", human_time(r.seconds_left)), 5}};
    const auto joined = [&] {
        std::string line;
        for (const Field& field : fields) line += field.text;
        return line;
    };
    const auto less_important = [](const Field& a, const Field& b) { return a.importance < b.importance; };
    while (fields.size() > 1 && joined().size() > columns)
        fields.erase(std::min_element(fields.begin(), fields.end(), less_important));
    return joined().substr(0, columns);
}

std::string loading_line(const std::string& what, const LoadingReport& r) {
    std::string line = what + ": ";
    if (r.total > 0)
        line += fmt::format("{:.0f} %", 100 * static_cast<double>(r.done) / static_cast<double>(r.total));
    else
        line += human_bytes(r.done);
    if (r.unit == DataUnit::bytes) line += fmt::format(", {:.0f} MB/s", r.rate / 1e6);
    if (r.total > 0 && r.rate > 0)
        line += ", ETA " + human_time(static_cast<double>(r.total - r.done) / r.rate);
    return line;
}

Progress::Progress(std::string stage, bool quiet)
    : stage_(std::move(stage)), terminal_(isatty(STDOUT_FILENO)), quiet_(quiet) {}

Progress::~Progress() {
    if (open_line_) std::puts("");
}

void Progress::step(const StepReport& r) {
    if (quiet_) return;
    const auto now = std::chrono::steady_clock::now();
    const bool last_step = r.step == r.steps;
    const auto pause = std::chrono::milliseconds(terminal_ ? 200 : 15000);
    if (now - last_ < pause && !last_step) return;
    last_ = now;
    const std::string text = progress_line(
        stage_, r, terminal_ ? free_columns(STDOUT_FILENO) : std::numeric_limits<size_t>::max());
    // A line that cannot be written ends no training: run_program says so in the end.
    std::fputs(terminal_ ? (clear_line + text).c_str() : (text + "\n").c_str(), stdout);
    open_line_ = terminal_;
    std::fflush(stdout);
}

void Progress::line(const std::string& text) {
    if (quiet_) return;
    std::fputs(((open_line_ ? clear_line : "") + text + "\n").c_str(), stdout);
    open_line_ = false;
    std::fflush(stdout);
}

namespace {

class Loading {
  public:
    ~Loading() { clear(); }

    void note(const std::string& text) {
        clear();
        std::fputs((text + "\n").c_str(), stderr);
    }

    void progress(const std::string& what, int64_t done, int64_t total, DataUnit unit) {
        using std::chrono::milliseconds;
        const auto now = std::chrono::steady_clock::now();
        if (what != what_ || done < done_) {
            what_ = what;
            begun_ = now;
            done_at_begin_ = done;
            due_ = now + milliseconds(1000);
        }
        done_ = done;
        if (done == total) return clear();
        if (now < due_) return;
        due_ = now + milliseconds(terminal_ ? 200 : 15000);
        const double seconds = std::chrono::duration<double>(now - begun_).count();
        const std::string text =
            loading_line(what, {.done = done,
                                .total = total,
                                .rate = static_cast<double>(done - done_at_begin_) / seconds,
                                .unit = unit});
        std::fputs(terminal_ ? (clear_line + text.substr(0, free_columns(STDERR_FILENO))).c_str()
                             : (text + "\n").c_str(),
                   stderr);
        open_line_ = terminal_;
    }

  private:
    void clear() {
        if (open_line_) std::fputs(clear_line.c_str(), stderr);
        open_line_ = false;
    }

    bool terminal_ = isatty(STDERR_FILENO) != 0, open_line_ = false;
    std::string what_;
    int64_t done_ = 0, done_at_begin_ = 0;
    std::chrono::steady_clock::time_point begun_, due_;
};

}  // namespace

DataLog loading_log() {
    const auto loading = std::make_shared<Loading>();
    return {[loading](const std::string& line) { loading->note(line); },
            [loading](const std::string& what, int64_t done, int64_t total, DataUnit unit) {
                loading->progress(what, done, total, unit);
            }};
}

}  // namespace sieve
