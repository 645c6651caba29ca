#include "framework/data/added_tokens.h"

#include <algorithm>

#include "framework/data/unicode.h"

namespace sieve {
namespace {

bool is_word_at(std::string_view text, size_t at) {
    const Utf8Char c = utf8_at(text, at);
    return c.valid && is_word(c.code);
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
    const bool word_before = begin > 0 && is_word_at(text, previous_utf8(text, begin));
    return !word_before && !(end < text.size() && is_word_at(text, end));
}

bool is_space_at(std::string_view text, size_t at) {
    const Utf8Char c = utf8_at(text, at);
    return c.valid && class_of(c.code) == CharClass::space;
}

size_t begin_of_space(std::string_view text, size_t end) {
    while (end > 0) {
        const size_t before = previous_utf8(text, end);
        if (!is_space_at(text, before)) break;
        end = before;
    }
    return end;
}

size_t end_of_space(std::string_view text, size_t at) {
    while (at < text.size() && is_space_at(text, at)) at += utf8_at(text, at).length;
    return at;
}

}  // namespace

bool AddedTokenFinder::add(std::string_view text, const AddedToken& token) {
    const Rule rule{token.id, token.single_word, token.lstrip, token.rstrip};
    if (!tokens_.emplace(text, rule).second) return false;
    if (first_bytes_.find(text[0]) == std::string::npos) first_bytes_ += text[0];
    auto& lengths = lengths_[static_cast<unsigned char>(text[0])];
    const auto place = std::lower_bound(lengths.begin(), lengths.end(), text.size(), std::greater<>());
    if (place == lengths.end() || *place != text.size()) lengths.insert(place, text.size());
    return true;
}

// Where a token may begin: mostly all begin with one byte, which the library finds fast.
size_t AddedTokenFinder::next_candidate(std::string_view text, size_t at) const {
    if (first_bytes_.size() == 1) return std::min(text.find(first_bytes_[0], at), text.size());
    while (at < text.size() && lengths_[static_cast<unsigned char>(text[at])].empty()) ++at;
    return at;
}

AddedTokenFinder::Found AddedTokenFinder::longest_at(std::string_view text, size_t at) const {
    for (const size_t length : lengths_[static_cast<unsigned char>(text[at])]) {
        if (length > text.size() - at) continue;
        const auto found = tokens_.find(text.substr(at, length));
        if (found != tokens_.end()) return {&found->second, length};
    }
    return {};
}

bool AddedTokenFinder::cut(std::string_view text, const OnText& on_text, const OnToken& on_token) const {
    size_t done = 0;
    for (size_t at = next_candidate(text, 0); at < text.size(); at = next_candidate(text, at)) {
        const Found found = longest_at(text, at);
        if (!found.rule) {
            ++at;
            continue;
        }
        size_t begin = at, end = at + found.length;
        at = end;
        if (found.rule->single_word && !stands_alone(text, begin, end)) continue;
        if (found.rule->lstrip) begin = begin_of_space(text, begin);  // or of what is done
        if (found.rule->rstrip) end = end_of_space(text, end);
        if (done < begin && !on_text(text.substr(done, begin - done))) return false;
        if (!on_token(found.rule->id)) return false;
        done = end;
    }
    return done >= text.size() || on_text(text.substr(done));
}

}  // namespace sieve
