// Regular expressions of Oniguruma, as the `tokenizers` package compiles them: Oniguruma's own syntax, UTF-8, no
// option. \p{...} of general categories and \p{Han} are those of Unicode 16.0, as in tokenizers 0.23, whatever
// the library knows; \w, \d, [[:alpha:]], scripts, long names of categories and case folding are the
// library's, and in Debian 12's (Oniguruma 6.9.8, Unicode 14.0) characters that are newer have no part in
// them.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct re_pattern_buffer;  // Oniguruma's

namespace sieve {

class Regex {
  public:
    // Throws bad_file when Oniguruma does not take the pattern, which has at most 64 KiB.
    explicit Regex(std::string_view pattern);
    // Finds just this text.
    static Regex of_text(std::string_view text);

    struct Match {
        size_t begin, end;
        bool operator==(const Match&) const = default;
    };
    class Matches;  // in one text, from its beginning to its end

  private:
    const std::string& pattern() const { return *pattern_; }
    bool is_class_run() const;
    void find_starts();

    // Shared by copies: searching changes nothing.
    std::shared_ptr<const std::string> pattern_;
    std::shared_ptr<re_pattern_buffer> compiled_;
    // Characters below 0x80 with which a match can begin; others are passed over without asking the library.
    std::array<bool, 0x80> starts_{};
    bool knows_starts_ = false;
};

// The matches that do not overlap, from left to right; an empty one right behind another is left out. The text
// must be well-formed UTF-8 and outlive this. A search that takes very many steps, as an expression like
// (a|aa)+$ can need, throws bad_file: more than 100,000 and 16 a byte of the text.
class Regex::Matches {
  public:
    Matches(const Regex& regex, std::string_view text);
    ~Matches();
    Matches(const Matches&) = delete;
    Matches& operator=(const Matches&) = delete;
    std::optional<Match> next();

  private:
    struct Limits;
    std::optional<Match> search();

    const Regex& regex_;
    std::string_view text_;
    std::vector<int> registers_;  // where groups begin, and where they end
    std::unique_ptr<Limits> limits_;
    size_t at_ = 0;
    std::optional<size_t> last_end_;
};

}  // namespace sieve
