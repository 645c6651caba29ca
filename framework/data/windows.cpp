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
    Windows windows{seq_len, end_to_end(0, border, width), {}};
    const std::vector<int64_t> in_order = end_to_end(border, n, width);
    const auto count = static_cast<int64_t>(in_order.size());
    for (const int64_t i : random_permutation(count, heldout_order_seed, split_stream)) {
        windows.validation.push_back(in_order[static_cast<size_t>(i)]);
    }
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
    return {seq_len, {starts.begin(), middle}, {middle, starts.end()}};
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

Windows make_windows(int64_t num_tokens, int64_t seq_len, Protocol protocol, double val_fraction,
                     uint64_t seed, const std::string& source) {
    check_window_settings(seq_len, val_fraction);
    if (protocol == Protocol::heldout) return heldout_windows(num_tokens, seq_len, val_fraction, source);
    return overlap_windows(num_tokens, seq_len, val_fraction, seed, source);
}

}  // namespace sieve
