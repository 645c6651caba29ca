#include "framework/program/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

namespace sieve {
namespace {

// Room on the terminal's line beside the ^C that it shows when the key is pressed, which would wrap the line.
// Asked for each line, because a window is resized.
size_t free_columns() {
    constexpr size_t usual = 80, key = 3;
    winsize window{};
    const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0;
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
    return fmt::format("{:.2f} M", static_cast<double>(count) / 1e6);
}

std::string progress_line(const std::string& stage, const StepReport& r, size_t columns) {
    struct Field {
        std::string text;
        int importance;
    };
    std::vector<Field> fields{{fmt::format("{} {}/{}", stage, r.step, r.steps), 6},
                              {fmt::format(" | loss {:.4f}", r.loss), 4},
                              {std::isnan(r.val_loss) ? "" : fmt::format(" | val {:.4f}", r.val_loss), 3},
                              {fmt::format(" | lr {:.2e}", r.learning_rate), 1},
                              {fmt::format(" | grad {:.2f}", r.grad_norm), 0},
                              {fmt::format(" | {:.0f} tok/s", r.tokens_per_second), 2},
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

Progress::Progress(std::string stage, bool quiet)
    : stage_(std::move(stage)), terminal_(isatty(STDOUT_FILENO)), quiet_(quiet) {}

Progress::~Progress() {
    if (open_line_) std::puts("");
}

void Progress::step(const StepReport& r) {
    if (quiet_) return;
    using namespace std::chrono_literals;
    const auto now = std::chrono::steady_clock::now();
    const bool last_step = r.step == r.steps;
    if (now - last_ < (terminal_ ? 200ms : 15s) && !last_step) return;
    last_ = now;
    const std::string text =
        progress_line(stage_, r, terminal_ ? free_columns() : std::numeric_limits<size_t>::max());
    if (terminal_)
        fmt::print("\r\x1b[2K{}", text);
    else
        fmt::print("{}\n", text);
    open_line_ = terminal_;
    std::fflush(stdout);
}

void Progress::line(const std::string& text) {
    if (quiet_) return;
    if (open_line_) fmt::print("\r\x1b[2K");
    open_line_ = false;
    fmt::print("{}\n", text);
    std::fflush(stdout);
}

}  // namespace sieve
