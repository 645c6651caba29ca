#include "tests/fuzz/mutate.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <string_view>

namespace sieve::fuzz {
namespace {

constexpr size_t longest_repeated = 1 << 19;

constexpr std::array<uint64_t, 12> extreme_numbers = {
    0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, ~0ull >> 1, 1ull << 63, ~0ull};
constexpr std::array<std::string_view, 14> extreme_texts = {"0",
                                                            "-1",
                                                            "1e308",
                                                            "1e999",
                                                            "-0.0",
                                                            "5e-324",
                                                            "2147483648",
                                                            "4294967297",
                                                            "9223372036854775807",
                                                            "18446744073709551615",
                                                            "184467440737095516160",
                                                            "null",
                                                            "[[]]",
                                                            "\"\\u0000\""};
constexpr std::string_view structural = "{}[]()\"\\,:'.\n\t \0\xFF\x80(tNRq";

class Mutator {
  public:
    Mutator(const std::vector<std::string>& samples, uint64_t seed)
        : random_(seed), samples_(samples), bytes_(samples[below(samples.size())]) {}

    std::string run() {
        for (size_t i = 0, changes = 1 + below(4); i < changes; ++i) change();
        return std::move(bytes_);
    }

  private:
    // Not std::uniform_int_distribution, which gives other numbers with other libraries.
    size_t below(size_t n) { return n == 0 ? 0 : random_() % n; }
    size_t place() { return below(bytes_.size() + 1); }
    size_t length() { return 1 + below(below(8) == 0 ? 256 : 8); }

    void change() {
        const size_t at = place(), rest = bytes_.size() - at, n = std::min(rest, length());
        switch (below(12)) {
            case 0:
                if (rest) bytes_[at] = static_cast<char>(bytes_[at] ^ 1 << below(8));
                break;
            case 1:
                if (rest) bytes_[at] = static_cast<char>(below(256));
                break;
            case 2:
                if (rest) bytes_[at] = structural[below(structural.size())];
                break;
            case 3:
                bytes_.insert(at, length(), static_cast<char>(below(256)));
                break;
            case 4:
                bytes_.insert(at, 1, structural[below(structural.size())]);
                break;
            case 5:
                bytes_.erase(at, n);
                break;
            case 6:
                bytes_.insert(place(), bytes_.substr(at, n));
                break;
            case 7:
                bytes_.resize(at);
                break;
            case 8:
                set_number(at, rest);
                break;
            case 9:
                replace_digits(at);
                break;
            case 10: {
                const std::string& other = samples_[below(samples_.size())];
                bytes_ = bytes_.substr(0, at) + other.substr(below(other.size() + 1));
                break;
            }
            case 11:
                repeat(at, n);
                break;
        }
    }

    void set_number(size_t at, size_t rest) {
        const uint64_t number = extreme_numbers[below(extreme_numbers.size())];
        const size_t bytes = std::min(rest, size_t{1} << below(4));
        std::memcpy(bytes_.data() + at, &number, bytes);
    }

    // The next number in the text.
    void replace_digits(size_t at) {
        const size_t begin = bytes_.find_first_of("0123456789", at);
        if (begin == std::string::npos) return;
        const size_t end = std::min(bytes_.find_first_not_of("0123456789.e+-", begin), bytes_.size());
        bytes_.replace(begin, end - begin, extreme_texts[below(extreme_texts.size())]);
    }

    // Rarely as often as makes a large file.
    void repeat(size_t at, size_t n) {
        if (n == 0) return;
        const std::string part = bytes_.substr(at, n);
        const size_t times = below(below(4) == 0 ? longest_repeated / n : 64);
        std::string all;
        all.reserve(times * n);
        for (size_t i = 0; i < times; ++i) all += part;
        bytes_.insert(at, all);
    }

    std::mt19937_64 random_;
    const std::vector<std::string>& samples_;
    std::string bytes_;
};

}  // namespace

std::string mutated(const std::vector<std::string>& samples, uint64_t seed) {
    return Mutator(samples, seed).run();
}

}  // namespace sieve::fuzz
