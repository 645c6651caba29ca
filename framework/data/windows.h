// From one long row of N tokens to windows of T + 1 of them:
//
//   inputs tokens[s .. s+T),   targets tokens[s+1 .. s+T]
//
//   heldout   no text is on both sides. Windows lie end to end in runs of tokens that follow each other in the
//             text: no token is in two windows, and no window crosses from one run to the next. Which runs are for
//             validation is decided before there are tokens (text_split.h); in older runs they were the last
//             `val_fraction` of the tokens, at least one window of them.
//   overlap   windows start at every token, N - T of them; a random `val_fraction` are for validation, so
//             that nearly every validation token is also trained on. This is the original experiment's split:
//             its validation loss measures memory, not language. Kept to reproduce its numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/core/named_enum.h"

namespace sieve {

enum class Protocol { heldout, overlap };
template <>
inline constexpr auto enum_names<Protocol> =
    std::to_array<NamedValue<Protocol>>({{Protocol::heldout, "heldout"}, {Protocol::overlap, "overlap"}});

struct Windows {
    int64_t length = 0;               // T
    std::vector<int64_t> train;       // where each window starts
    std::vector<int64_t> validation;  // in a shuffled order, so that the first few are a fair sample
    std::vector<int64_t> sources;     // of each validation window; empty where it is not known
};

// Tokens [begin, end) that follow each other in the text.
struct TokenRun {
    int64_t begin, end;
    int64_t source = 0;
};

// A usage error unless seq_len >= 1 and val_fraction lies between 0 and 1.
void check_window_settings(int64_t seq_len, double val_fraction);

// Fails (bad_file) when there are too few tokens for a train and a validation window; `source` names them.
// `seed` decides the split under overlap. Under heldout, whose last tokens are then for validation, nothing depends on it, not even the validation order.
Windows make_windows(int64_t num_tokens, int64_t seq_len, Protocol protocol, double val_fraction,
                     uint64_t seed, const std::string& source);

// heldout, with runs that are given. Fails (bad_file) unless there is a window on both sides.
Windows windows_of_runs(const std::vector<TokenRun>& train, const std::vector<TokenRun>& validation,
                        int64_t seq_len, const std::string& source);

// The permutation of 0 .. n-1 that (seed, stream) names (Fisher-Yates on Philox numbers).
std::vector<int64_t> random_permutation(int64_t n, uint64_t seed, uint64_t stream);

}  // namespace sieve
