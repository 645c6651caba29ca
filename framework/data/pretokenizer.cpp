#include "framework/data/pretokenizer.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

namespace sieve {
namespace {

constexpr CharClass class_of_ascii(unsigned char c) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return CharClass::letter;
    if (c >= '0' && c <= '9') return CharClass::number;
    return c == ' ' || (c >= 9 && c <= 13) ? CharClass::space : CharClass::other;
}

constexpr std::array<CharClass, 128> classes_of_ascii() {
    std::array<CharClass, 128> table{};
    for (size_t c = 0; c < table.size(); ++c) table[c] = class_of_ascii(static_cast<unsigned char>(c));
    return table;
}

// Most text is ASCII, and cutting it into words is a third of what counting and encoding it take: of these classes no
// function is asked.
constexpr std::array<CharClass, 128> ascii_classes = classes_of_ascii();

struct ClassAt {
    CharClass klass;
    uint32_t length;
};

inline ClassAt class_at(std::string_view text, size_t at) {
    const auto lead = static_cast<unsigned char>(text[at]);
    if (lead < ascii_classes.size()) return {ascii_classes[lead], 1};
    const Utf8Char c = utf8_at(text, at);
    return {c.valid ? class_of(c.code) : CharClass::other, c.length};
}

inline size_t end_of_run(std::string_view text, size_t at, CharClass klass) {
    while (at < text.size()) {
        const ClassAt c = class_at(text, at);
        if (c.klass != klass) break;
        at += c.length;
    }
    return at;
}

// 0: none begins here, where an apostrophe is.
size_t contraction_length(std::string_view rest) {
    for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
        if (rest.starts_with(ending)) return ending.size();
    }
    return 0;
}

// \s+(?!\S)|\s+ : the run of white space, without its last character when a word follows and it has more than
// one.
size_t space_end(std::string_view text, size_t at) {
    size_t last = at, end = at;
    while (end < text.size()) {
        const ClassAt c = class_at(text, end);
        if (c.klass != CharClass::space) break;
        last = end;
        end += c.length;
    }
    return end == text.size() || last == at ? end : last;
}

using Step = std::variant<SplitStep, DigitsStep>;
using Visit = std::function<bool(std::string_view piece)>;

// Makes pieces of the matches of a Split and of what lies between them, which come in the order of the text.
template <class Emit>
class PieceMaker {
  public:
    PieceMaker(SplitBehavior behavior, const Emit& emit) : behavior_(behavior), emit_(emit) {}

    // Both return false when `emit` did.
    bool add(std::string_view part, bool is_match) {
        const bool after_match = was_match_;
        was_match_ = is_match;
        switch (behavior_) {
            case SplitBehavior::removed:
                return is_match || give(part);
            case SplitBehavior::isolated:
                return give(part);
            case SplitBehavior::contiguous:
                return is_match == after_match ? extend(part) : hold(part);
            case SplitBehavior::merged_with_previous:
                return is_match && !after_match ? extend(part) : hold(part);
            case SplitBehavior::merged_with_next:
                if (is_match) return hold(part);
                return after_match ? extend(part) && finish() : give(part);
        }
        return true;
    }
    bool finish() {
        if (!holds_) return true;
        holds_ = false;
        return give(held_);
    }

  private:
    bool give(std::string_view piece) { return piece.empty() || emit_(piece); }
    bool hold(std::string_view part) {
        if (!finish()) return false;
        held_ = part;
        holds_ = true;
        return true;
    }
    bool extend(std::string_view part) {
        if (!holds_) return hold(part);
        held_ = {held_.data(), held_.size() + part.size()};
        return true;
    }

    SplitBehavior behavior_;
    const Emit& emit_;
    bool was_match_ = false, holds_ = false;
    std::string_view held_;  // may still grow
};

template <class Emit>
bool apply(const SplitStep& step, std::string_view text, const Emit& emit) {
    PieceMaker<Emit> pieces(step.behavior, emit);
    Regex::Matches matches(step.regex, text);
    size_t done = 0;
    while (const auto match = matches.next()) {
        if (done < match->begin && !pieces.add(text.substr(done, match->begin - done), step.invert))
            return false;
        if (!pieces.add(text.substr(match->begin, match->end - match->begin), !step.invert)) return false;
        done = match->end;
    }
    if (done < text.size() && !pieces.add(text.substr(done), step.invert)) return false;
    return pieces.finish();
}

// Whether a number starts at text[at], and the end of the character.
struct NumberAt {
    bool is_number;
    size_t end;
};

NumberAt number_at(std::string_view text, size_t at) {
    const Utf8Char c = utf8_at(text, at);
    return {c.valid && is_numeric(c.code), at + c.length};
}

template <class Emit>
bool apply(const DigitsStep& step, std::string_view text, const Emit& emit) {
    for (size_t begin = 0; begin < text.size();) {
        const NumberAt first = number_at(text, begin);
        size_t end = first.end;
        while (end < text.size() && !(first.is_number && step.individual)) {
            const NumberAt next = number_at(text, end);
            if (next.is_number != first.is_number) break;
            end = next.end;
        }
        if (!emit(text.substr(begin, end - begin))) return false;
        begin = end;
    }
    return true;
}

bool cut(std::span<const Step> steps, std::string_view text, const Visit& visit) {
    if (steps.empty()) return visit(text);
    const auto rest = steps.subspan(1);
    const auto emit = [&](std::string_view piece) { return cut(rest, piece, visit); };
    return std::visit([&](const auto& step) { return apply(step, text, emit); }, steps.front());
}

size_t end_of_invalid_utf8(std::string_view text, size_t at) {
    while (at < text.size() && !utf8_at(text, at).valid) ++at;
    return at;
}

}  // namespace

size_t word_end(std::string_view text, size_t at) {
    if (text[at] == '\'')
        if (const size_t length = contraction_length(text.substr(at))) return at + length;
    const size_t start = at + (text[at] == ' ');
    if (start == text.size()) return start;
    const CharClass klass = class_at(text, start).klass;
    return klass == CharClass::space ? space_end(text, at) : end_of_run(text, start, klass);
}

size_t word_border(std::string_view text, size_t at) {
    for (at = std::max<size_t>(at, 1); at < text.size(); ++at) {
        const char c = text[at], before = text[at - 1];
        if ((c == ' ' || c == '\n') && before > ' ' && before <= '~') return at;
    }
    return text.size();
}

SplitStep::SplitStep(std::string pattern_text, bool regular_expression, SplitBehavior what_becomes,
                     bool inverted)
    : pattern(std::move(pattern_text)),
      is_regex(regular_expression),
      behavior(what_becomes),
      invert(inverted),
      regex(is_regex ? Regex(pattern) : Regex::of_text(pattern)) {}

bool for_each_piece(const PreTokenizer& pre_tokenizer, std::string_view text,
                    const std::function<bool(std::string_view piece)>& visit) {
    const auto& steps = pre_tokenizer.steps;
    const bool valid_only = std::any_of(
        steps.begin(), steps.end(), [](const Step& step) { return std::holds_alternative<SplitStep>(step); });
    for (size_t at = 0; at < text.size();) {
        const size_t valid = valid_only ? end_of_valid_utf8(text, at) : text.size();
        if (valid > at && !cut(steps, text.substr(at, valid - at), visit)) return false;
        const size_t invalid = end_of_invalid_utf8(text, valid);
        if (invalid > valid && !visit(text.substr(valid, invalid - valid))) return false;
        at = invalid;
    }
    return true;
}

}  // namespace sieve
