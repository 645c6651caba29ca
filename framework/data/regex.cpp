#include "framework/data/regex.h"

#include <fmt/format.h>
#include <oniguruma.h>

#include <algorithm>
#include <deque>

#include "framework/core/error.h"
#include "framework/data/unicode.h"

namespace sieve {
namespace {

constexpr size_t longest_pattern = 1 << 16;

std::string message_of(int code, OnigErrorInfo* info = nullptr) {
    OnigUChar buffer[ONIG_MAX_ERROR_MESSAGE_LEN];
    const int length =
        info ? onig_error_code_to_str(buffer, code, info) : onig_error_code_to_str(buffer, code);
    return {buffer, buffer + length};
}

const OnigUChar* bytes(std::string_view text) {
    return reinterpret_cast<const OnigUChar*>(text.data());
}

// The library keeps a pointer to the list, and looks into it before its own tables.
void define_property(const std::string& name, const std::vector<CodeRange>& code_points) {
    static std::deque<std::vector<OnigCodePoint>> lists;
    std::vector<OnigCodePoint>& list = lists.emplace_back();
    list.push_back(static_cast<OnigCodePoint>(code_points.size()));
    for (const CodeRange& range : code_points) list.insert(list.end(), {range.first, range.last});
    const int code = onig_unicode_define_user_property(name.c_str(), list.data());
    if (code != ONIG_NORMAL) fail(fmt::format("Oniguruma: \\p{{{}}}: {}", name, message_of(code)));
}

void start_library() {
    static const bool started = [] {
        OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
        onig_initialize(encodings, 1);
        onig_set_warn_func(onig_null_warn);
        onig_set_verb_warn_func(onig_null_warn);
        // All categories with characters that are newer than Unicode 14.0 but Cf. The library has room for 20.
        for (const char* category : {"L", "Lu", "Ll", "Lm", "Lo", "M", "Mn", "Mc", "N", "Nd", "No", "P", "Pd",
                                     "Po", "S", "Sm", "So", "C", "Cn"})
            define_property(category, code_points_of_category(category));
        define_property("Han", code_points_of_han());
        return true;
    }();
    (void)started;
}

}  // namespace

struct Regex::Matches::Limits {
    explicit Limits(size_t text_bytes) : param(onig_new_match_param()) {
        if (!param) fail("Oniguruma: no memory");
        constexpr unsigned long steps = 100'000, steps_a_byte = 16;
        constexpr unsigned int stack = 1 << 24;  // of about 40 bytes each
        onig_initialize_match_param(param);
        onig_set_retry_limit_in_match_of_match_param(param, steps + steps_a_byte * text_bytes);
        onig_set_retry_limit_in_search_of_match_param(param, steps + steps_a_byte * text_bytes);
        onig_set_match_stack_limit_size_of_match_param(param, stack);
    }
    ~Limits() { onig_free_match_param(param); }
    Limits(const Limits&) = delete;
    Limits& operator=(const Limits&) = delete;

    OnigMatchParam* param;
};

Regex::Regex(std::string_view pattern) : pattern_(std::make_shared<const std::string>(pattern)) {
    start_library();
    if (pattern.size() > longest_pattern)
        fail_bad_file(
            fmt::format("the pattern {:?} has more than {} bytes", shortened(pattern), longest_pattern));
    OnigRegex compiled = nullptr;
    OnigErrorInfo info;
    const OnigUChar* begin = bytes(*pattern_);
    const int code = onig_new(&compiled, begin, begin + pattern_->size(), ONIG_OPTION_NONE,
                              ONIG_ENCODING_UTF8, ONIG_SYNTAX_ONIGURUMA, &info);
    if (code != ONIG_NORMAL)
        fail_bad_file(fmt::format("the pattern {:?}: {}", shortened(pattern), message_of(code, &info)));
    compiled_ = std::shared_ptr<re_pattern_buffer>(compiled, onig_free);
    find_starts();
}

Regex Regex::of_text(std::string_view text) {
    std::string pattern;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        const bool plain = byte >= 0x80 || byte <= ' ' || std::isalnum(byte);
        if (!plain) pattern += '\\';
        pattern += c;
    }
    return Regex(pattern);
}

// One class of characters, perhaps repeated: \p{N}{1,3}, [a-z]+. A match of it begins where one character
// matches.
bool Regex::is_class_run() const {
    std::string_view rest = pattern();
    if (rest.starts_with("\\p{")) {
        rest.remove_prefix(std::min(rest.find('}'), rest.size() - 1) + 1);
    } else if (rest.starts_with('[')) {
        size_t end = 1;
        while (end < rest.size() && rest[end] != ']' && rest[end] != '[' && rest[end] != '&')
            end += rest[end] == '\\' ? 2 : 1;
        if (end >= rest.size() || rest[end] != ']' || end == 1) return false;
        rest.remove_prefix(end + 1);
    } else {
        return false;
    }
    const bool counted = rest.starts_with("{1,") && rest.ends_with('}') &&
                         rest.find_first_not_of("0123456789", 3) == rest.size() - 1;
    return rest.empty() || rest == "+" || counted;
}

void Regex::find_starts() {
    if (!is_class_run()) return;
    for (size_t c = 0; c < starts_.size(); ++c) {
        const char letter = static_cast<char>(c);
        starts_[c] = Matches(*this, {&letter, 1}).next().has_value();
    }
    knows_starts_ = true;
}

Regex::Matches::Matches(const Regex& regex, std::string_view text)
    : regex_(regex), text_(text), limits_(std::make_unique<Limits>(text.size())) {
    registers_.resize(2 * std::max<size_t>(ONIG_NREGION, onig_number_of_captures(regex.compiled_.get()) + 1));
}

Regex::Matches::~Matches() = default;

std::optional<Regex::Match> Regex::Matches::search() {
    size_t from = at_;
    if (regex_.knows_starts_) {
        const auto skipped = [&](char c) {
            const auto byte = static_cast<unsigned char>(c);
            return byte < 0x80 && !regex_.starts_[byte];
        };
        while (from < text_.size() && skipped(text_[from])) ++from;
        if (from == text_.size()) return std::nullopt;
    }
    const int most = static_cast<int>(registers_.size() / 2);
    // The library fills these registers, and asks for no others, as they are enough.
    OnigRegion region{
        .allocated = most, .num_regs = 0, .beg = registers_.data(), .end = registers_.data() + most};
    const OnigUChar* begin = bytes(text_);
    const OnigUChar* end = begin + text_.size();
    const int found = onig_search_with_param(regex_.compiled_.get(), begin, end, begin + from, end, &region,
                                             ONIG_OPTION_NONE, limits_->param);
    if (found == ONIG_MISMATCH) return std::nullopt;
    if (found < 0)
        fail_bad_file(
            fmt::format("tokenizer: the pattern {:?} on {} bytes of text: {}; it takes too many steps",
                        shortened(regex_.pattern()), text_.size(), message_of(found)));
    const Match match{static_cast<size_t>(region.beg[0]), static_cast<size_t>(region.end[0])};
    if (match.begin < at_ || match.end < match.begin)
        fail_bad_file(fmt::format("tokenizer: the pattern {:?} matches backwards, from byte {} to {} of {}",
                                  shortened(regex_.pattern()), match.begin, match.end, text_.size()));
    return match;
}

std::optional<Regex::Match> Regex::Matches::next() {
    while (at_ <= text_.size()) {
        const std::optional<Match> match = search();
        if (!match) break;
        if (match->begin == match->end && last_end_ == match->end) {
            at_ += at_ < text_.size() ? utf8_at(text_, at_).length : 1;
            continue;
        }
        at_ = match->end;
        last_end_ = at_;
        return match;
    }
    at_ = text_.size() + 1;
    return std::nullopt;
}

}  // namespace sieve
