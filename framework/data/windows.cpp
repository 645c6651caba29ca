#include "framework/data/windows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "framework/core/error.h"
#include "framework/core/rng.h"

namespace sieve {
namespace {

// Streams far away from the ones that Generator hands out from 0 up.
constexpr uint64_t split_stream = uint64_t{1} << 63;
constexpr uint64_t heldout_order_seed = 0;

void require_tokens(const std::string& source, int64_t num_tokens, int64_t need, const char* windows) {
    if (num_tokens >= need) return;
    const std::vector<SizeKind> lower{SizeKind::length};
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: {} tokens, need at least {}, {}; give more text or lower {}", source,
                            num_tokens, need, windows, one_of(lower)),
                lower);
}

std::vector<int64_t> end_to_end(int64_t begin, int64_t end, int64_t width) {
    std::vector<int64_t> starts;
    for (int64_t s = begin; s + width <= end; s += width) starts.push_back(s);
    return starts;
}

Windows heldout_windows(int64_t n, int64_t seq_len, double val_fraction, const std::string& source) {
    const int64_t width = seq_len + 1;
    require_tokens(source, n, 2 * width, "a train and a validation window with their targets");
    const auto wanted = static_cast<int64_t>(static_cast<double>(n) * val_fraction);
    const int64_t border = n - std::clamp(wanted, width, n - width);
    Windows windows = windows_of_runs({{0, border}}, {{border, n}}, seq_len, source);
    windows.sources.clear();  // of the file that a token comes from nothing is known
    return windows;
}

Windows overlap_windows(int64_t n, int64_t seq_len, double val_fraction, uint64_t seed,
                        const std::string& source) {
    require_tokens(source, n, seq_len + 2, "a train and a validation window that overlap");
    const int64_t count = n - seq_len;
    const auto wanted = static_cast<int64_t>(static_cast<double>(count) * val_fraction);
    const int64_t for_validation = std::clamp<int64_t>(wanted, 1, count - 1);
    const std::vector<int64_t> starts = random_permutation(count, seed, split_stream);
    const auto middle = starts.end() - for_validation;
    return {seq_len, {starts.begin(), middle}, {middle, starts.end()}, {}};
}

}  // namespace

void check_window_settings(int64_t seq_len, double val_fraction) {
    if (seq_len < 1) fail_usage(fmt::format("seq_len: {}; want at least 1", seq_len));
    if (!(val_fraction > 0.0 && val_fraction < 1.0)) {
        fail_usage(fmt::format("val_fraction: {}; want more than 0 and less than 1", val_fraction));
    }
}

std::vector<int64_t> random_permutation(int64_t n, uint64_t seed, uint64_t stream) {
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), int64_t{0});
    for (size_t i = order.size(); i > 1; --i) {
        const Philox4 r = philox({seed, stream}, i);
        const uint64_t bits = uint64_t{r.v[1]} << 32 | r.v[0];
        const auto j = static_cast<size_t>(static_cast<unsigned __int128>(bits) * i >> 64);  // in [0, i)
        std::swap(order[i - 1], order[j]);
    }
    return order;
}

Windows windows_of_runs(const std::vector<TokenRun>& train, const std::vector<TokenRun>& validation,
                        int64_t seq_len, const std::string& source) {
    const int64_t width = seq_len + 1;
    Windows windows{.length = seq_len};
    for (const TokenRun& run : train)
        for (const int64_t start : end_to_end(run.begin, run.end, width)) windows.train.push_back(start);
    std::vector<std::pair<int64_t, int64_t>> held_out;  // start and source
    for (const TokenRun& run : validation)
        for (const int64_t start : end_to_end(run.begin, run.end, width))
            held_out.emplace_back(start, run.source);
    if (windows.train.empty() || held_out.empty()) {
        const std::vector<SizeKind> lower{SizeKind::length};
        throw Error(
            ErrorKind::bad_file,
            fmt::format("{}: {} training and {} validation windows of {} tokens with their targets, need at "
                        "least one of each; give more text or lower {}",
                        source, windows.train.size(), held_out.size(), seq_len, one_of(lower)),
            lower);
    }
    for (const int64_t i : random_permutation(std::ssize(held_out), heldout_order_seed, split_stream)) {
        windows.validation.push_back(held_out[static_cast<size_t>(i)].first);
        windows.sources.push_back(held_out[static_cast<size_t>(i)].second);
    }
    return windows;
}

Windows make_windows(int64_t num_tokens, int64_t seq_len, Protocol protocol, double val_fraction,
                     uint64_t seed, const std::string& source) {
    check_window_settings(seq_len, val_fraction);
    if (protocol == Protocol::heldout) return heldout_windows(num_tokens, seq_len, val_fraction, source);
    return overlap_windows(num_tokens, seq_len, val_fraction, seed, source);
}

}  // namespace sieve
