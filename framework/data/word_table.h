// An open-addressing hash table that numbers distinct words 0, 1, 2, ... in the order of their first
// appearance. It does not copy the words: the text must outlive the table.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace sieve {

class WordTable {
  public:
    WordTable();

    struct Found {
        uint32_t index;
        bool is_new;
    };
    Found find_or_add(std::string_view word);
    size_t size() const { return words_.size(); }
    std::string_view word(size_t index) const { return words_[index]; }

  private:
    struct Slot {
        uint32_t hash = 0;
        uint32_t index = empty;
    };
    static constexpr uint32_t empty = 0xFFFFFFFF;

    void grow();

    std::vector<Slot> slots_;  // a power of two of them, at most half full
    std::vector<std::string_view> words_;
};

}  // namespace sieve
