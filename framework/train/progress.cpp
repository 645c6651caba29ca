#include "framework/train/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

namespace sieve {

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
    const std::string val = std::isnan(r.val_loss) ? "" : fmt::format(" | val {:.4f}", r.val_loss);
    const std::string text = fmt::format("{} {}/{} | loss {:.4f}{} | lr {:.2e} | grad {:.2f} | {:.0f} tok/s | ETA {}",
                                         stage_, r.step, r.steps, r.loss, val, r.learning_rate, r.grad_norm,
                                         r.tokens_per_second, human_time(r.seconds_left));
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
