#include "framework/data/word_table.h"

#include <algorithm>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sieve {
namespace {

template <class T>
uint64_t read_as(const char* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

}  // namespace

WordTable::WordTable() : slots_(256) {}

// With the length, the first and the last bytes say what a word of no more than both together is.
WordTable::Key WordTable::key_of(std::string_view word) {
    const char* begin = word.data();
    const size_t n = word.size();
    const auto length = static_cast<uint32_t>(n);
    if (n > longest_short) {
        const XXH128_hash_t hash = XXH3_128bits(begin, n);
        return {hash.low64, hash.high64, length};
    }
    if (n >= 8) return {read_as<uint64_t>(begin), read_as<uint64_t>(begin + n - 8), length};
    if (n >= 4) return {read_as<uint32_t>(begin), read_as<uint32_t>(begin + n - 4), length};
    return {read_as<uint8_t>(begin), read_as<uint8_t>(begin + n / 2) << 8 | read_as<uint8_t>(begin + n - 1),
            length};
}

size_t WordTable::hash_of(const Key& key) {
    const XXH128_hash_t product =
        XXH_mult64to128(key.first ^ 0x9E3779B97F4A7C15u ^ key.length, key.second ^ 0xD6E8FEB86659FD93u);
    return product.low64 ^ product.high64;
}

WordTable::Found WordTable::find_or_add(std::string_view word) {
    const Key key = key_of(word);
    const size_t mask = slots_.size() - 1;
    for (size_t s = hash_of(key) & mask;; s = (s + 1) & mask) {
        Slot& slot = slots_[s];
        if (slot.index == empty) {
            slot = {key, static_cast<uint32_t>(words_.size())};
            words_.push_back(copy(word));
            const Found found{slot.index, true};
            if (2 * words_.size() > slots_.size()) grow();
            return found;
        }
        if (slot.key == key && (word.size() <= longest_short || words_[slot.index] == word))
            return {slot.index, false};
    }
}

std::string_view WordTable::copy(std::string_view word) {
    constexpr size_t block = 1 << 16;
    if (word.size() > block_left_) {
        block_left_ = std::max(block, word.size());
        block_at_ = blocks_.emplace_back(std::make_unique_for_overwrite<char[]>(block_left_)).get();
    }
    const std::string_view copied{block_at_, word.size()};
    block_at_ = std::copy(word.begin(), word.end(), block_at_);
    block_left_ -= word.size();
    copied_ += word.size();
    return copied;
}

size_t WordTable::bytes() const {
    return copied_ + words_.capacity() * sizeof(std::string_view) + slots_.size() * sizeof(Slot);
}

void WordTable::grow() {
    std::vector<Slot> larger(4 * slots_.size());
    const size_t mask = larger.size() - 1;
    for (const Slot& slot : slots_) {
        if (slot.index == empty) continue;
        size_t s = hash_of(slot.key) & mask;
        while (larger[s].index != empty) s = (s + 1) & mask;
        larger[s] = slot;
    }
    slots_ = std::move(larger);
}

}  // namespace sieve
