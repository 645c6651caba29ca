// Pairs of token ids that are merged, and their ranks: an open-addressing hash table, as the look-ups are what
// splitting new words into tokens consists of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sieve {

class MergeTable {
  public:
    void reserve(size_t pairs);                           // forgets all, and makes room for so many
    void set(int32_t left, int32_t right, int32_t rank);  // replaces what was set before
    // -1: no such merge.
    int32_t rank(int32_t left, int32_t right) const {
        return slots_.empty() ? -1 : slots_[find(left, right)].rank;
    }

  private:
    struct Slot {
        int32_t left = -1, right = -1, rank = -1;  // a rank of -1: empty
    };
    size_t find(int32_t left, int32_t right) const {
        const uint64_t pair =
            static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
        const uint64_t mixed = pair * 0x9E3779B97F4A7C15u;
        size_t s = (mixed ^ mixed >> 32) & (slots_.size() - 1);
        while (slots_[s].rank >= 0 && (slots_[s].left != left || slots_[s].right != right))
            s = (s + 1) & (slots_.size() - 1);
        return s;
    }

    std::vector<Slot> slots_;  // a power of two of them, at most half full
};

}  // namespace sieve
