#include "models/sampling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "framework/core/error.h"
#include "framework/core/rng.h"

namespace sieve {
namespace {

struct Candidate {
    double weight;  // its probability times a common factor; 1 for the most likely
    int32_t token;
    // The less likely of two; of equals the one with the higher id.
    bool operator<(const Candidate& other) const {
        return weight != other.weight ? weight < other.weight : token > other.token;
    }
};

// [0, 1) with 53 random bits.
double uniform_at(uint64_t seed, uint64_t draw) {
    const Philox4 r = philox({seed, 0}, draw);
    return static_cast<double>((uint64_t{r.v[0]} << 32 | r.v[1]) >> 11) / 9007199254740992.0;
}

// Moves the fewest most likely candidates whose weights reach `wanted` to the end, the most likely last.
std::vector<Candidate>::iterator nucleus(std::vector<Candidate>& all, double wanted) {
    std::make_heap(all.begin(), all.end());
    auto first = all.end();
    for (double sum = 0; sum < wanted && first != all.begin(); sum += first->weight) {
        std::pop_heap(all.begin(), first);
        --first;
    }
    return first;
}

double sum_of(std::vector<Candidate>::const_iterator first, std::vector<Candidate>::const_iterator last) {
    double sum = 0;
    for (; first != last; ++first) sum += first->weight;
    return sum;
}

}  // namespace

void validate(const Sampling& s) {
    if (!(s.temperature >= 0) || !std::isfinite(s.temperature))
        fail_usage(fmt::format("temperature: {}, want at least 0", s.temperature));
    if (!(s.top_p > 0 && s.top_p <= 1)) fail_usage(fmt::format("top_p: {}, want 0 < top_p <= 1", s.top_p));
}

int32_t sample_token(const Tensor& logits, const Sampling& sampling, uint64_t draw) {
    const std::vector<double> l = logits.to(DType::float64).to_vector<double>();
    if (l.empty()) fail("sample_token: no logits");
    if (std::any_of(l.begin(), l.end(), [](double x) { return std::isnan(x); }))
        throw Error(ErrorKind::diverged, "sample_token: a logit is NaN; did the training diverge?");
    const auto best = std::max_element(l.begin(), l.end());  // the first of equals
    if (sampling.temperature == 0) return static_cast<int32_t>(best - l.begin());

    std::vector<Candidate> all;
    for (size_t i = 0; i < l.size(); ++i)
        all.push_back(
            {l[i] == *best ? 1.0 : std::exp((l[i] - *best) / sampling.temperature), static_cast<int32_t>(i)});
    auto first = all.begin();
    if (sampling.top_p < 1) first = nucleus(all, sampling.top_p * sum_of(all.begin(), all.end()));

    double left = uniform_at(sampling.seed, draw) * sum_of(first, all.end());
    for (auto candidate = all.end() - 1; candidate != first; --candidate) {
        left -= candidate->weight;
        if (left < 0) return candidate->token;
    }
    return first->token;
}

}  // namespace sieve
