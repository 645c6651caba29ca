#include "framework/data/word_table.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sieve {

WordTable::WordTable() : slots_(256) {}

WordTable::Found WordTable::find_or_add(std::string_view word) {
    const auto hash = static_cast<uint32_t>(XXH3_64bits(word.data(), word.size()));
    const size_t mask = slots_.size() - 1;
    for (size_t s = hash & mask;; s = (s + 1) & mask) {
        Slot& slot = slots_[s];
        if (slot.index == empty) {
            slot = {hash, static_cast<uint32_t>(words_.size())};
            words_.push_back(word);
            const Found found{slot.index, true};
            if (2 * words_.size() > slots_.size()) grow();
            return found;
        }
        if (slot.hash == hash && words_[slot.index] == word) return {slot.index, false};
    }
}

void WordTable::grow() {
    std::vector<Slot> larger(4 * slots_.size());
    const size_t mask = larger.size() - 1;
    for (const Slot& slot : slots_) {
        if (slot.index == empty) continue;
        size_t s = slot.hash & mask;
        while (larger[s].index != empty) s = (s + 1) & mask;
        larger[s] = slot;
    }
    slots_ = std::move(larger);
}

}  // namespace sieve
