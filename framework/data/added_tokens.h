// Added tokens: found in the text before anything else, as the `tokenizers` package finds them. Of those that
// begin at the leftmost place the longest counts, and the search goes on behind it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sieve {

struct AddedToken {
    int32_t id = 0;
    std::string content;
    bool special = false;
    bool normalized = false;   // found in the normalized text, as its own normalized content
    bool single_word = false;  // only where no character of a word stands beside it
    bool lstrip = false;       // takes the white space on its left
    bool rstrip = false;       // and on its right
    bool operator==(const AddedToken&) const = default;
};

class AddedTokenFinder {
  public:
    // False when another token has this text already, which is `token.content` or what became of it.
    bool add(std::string_view text, const AddedToken& token);
    bool empty() const { return tokens_.empty(); }

    using OnText = std::function<bool(std::string_view text)>;
    using OnToken = std::function<bool(int32_t id)>;
    // Calls both in the order of the text, never with an empty one, until one of them returns false; returns
    // whether none did. White space that one token took on its right is not there for the next one's left;
    // but a token whose own text lies in it is found all the same, and the text behind that once more.
    bool cut(std::string_view text, const OnText& on_text, const OnToken& on_token) const;

  private:
    struct Rule {
        int32_t id;
        bool single_word, lstrip, rstrip;
    };
    struct TextHash {
        using is_transparent = void;
        size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
    };
    struct Found {
        const Rule* rule = nullptr;
        size_t length = 0;
    };
    size_t next_candidate(std::string_view text, size_t at) const;
    Found longest_at(std::string_view text, size_t at) const;

    std::unordered_map<std::string, Rule, TextHash, std::equal_to<>> tokens_;
    std::string first_bytes_;                       // with which they begin
    std::array<std::vector<size_t>, 256> lengths_;  // of the texts that begin with a byte, the longest first
};

}  // namespace sieve
