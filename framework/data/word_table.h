// An open-addressing hash table that numbers distinct words 0, 1, 2, ... in the order of their first
// appearance. Words of up to 16 bytes, which most are, are compared in the table, without a look at the table's copy of
// the word, which may be far from the cache.
#pragma once

#include <cstdint>
#include <memory>
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
    Found find_or_add(std::string_view word);  // of at least one byte, less than 4 GiB
    size_t size() const { return words_.size(); }
    std::string_view word(size_t index) const { return words_[index]; }
    size_t bytes() const;  // that it takes, about

  private:
    struct Key {
        uint64_t first, second;  // of a short word: its bytes, some of them twice; else two hashes
        uint32_t length;
        bool operator==(const Key&) const = default;
    };
    struct Slot {
        Key key{};
        uint32_t index = empty;
    };
    static constexpr uint32_t empty = 0xFFFFFFFF;
    static constexpr size_t longest_short = 16;

    static Key key_of(std::string_view word);
    static size_t hash_of(const Key& key);
    void grow();
    std::string_view copy(std::string_view word);

    std::vector<Slot> slots_;  // a power of two of them, at most half full
    std::vector<std::string_view> words_;
    std::vector<std::unique_ptr<char[]>> blocks_;  // copies of the words
    size_t block_left_ = 0, copied_ = 0;
    char* block_at_ = nullptr;
};

}  // namespace sieve
