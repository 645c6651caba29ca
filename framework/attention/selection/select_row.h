// The top k of one row of scores, by (score descending, index ascending).
//
// Scores become unsigned integers in the same order; the k-th largest is found by bisection on its value
// (each step is one vectorised count), and one ascending pass writes the indices. No data-dependent branch
// per element.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "framework/core/simd.h"

namespace sieve::cpu {

template <class T>
using OrderKey = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

// Scratch of one row: `keys` and `marks` hold round_up(count, 64) elements.
template <class T>
struct SelectScratch {
    OrderKey<T>* keys;
    uint8_t* marks;
};

// Integers in the order of the numbers, with -0 equal to +0. False when there is a NaN.
template <class T>
SIEVE_INLINE bool order_keys(const T* __restrict scores, int64_t count, OrderKey<T>* __restrict keys) {
    using Key = OrderKey<T>;
    constexpr Key sign = Key(1) << (8 * sizeof(T) - 1);
    Key unordered = 0;
#pragma omp simd reduction(| : unordered)
    for (int64_t i = 0; i < count; ++i) {
        const T x = scores[i] + T(0);  // -0 becomes +0
        unordered |= x != x ? Key(1) : Key(0);
        const Key bits = std::bit_cast<Key>(x);
        keys[i] = bits & sign ? ~bits : bits | sign;
    }
    return unordered == 0;
}

template <class Key>
SIEVE_INLINE int64_t count_at_least(const Key* __restrict keys, int64_t count, Key bound) {
    Key n = 0;
#pragma omp simd reduction(+ : n)
    for (int64_t i = 0; i < count; ++i) n += keys[i] >= bound ? Key(1) : Key(0);
    return static_cast<int64_t>(n);
}

// The largest value that at least k keys reach: the k-th largest key, or (when `exact` comes back true) a
// value that exactly k keys reach.
template <class Key>
SIEVE_INLINE Key threshold(const Key* __restrict keys, int64_t count, int64_t k, bool& exact) {
    Key low = ~Key(0), high = 0;
#pragma omp simd reduction(min : low) reduction(max : high)
    for (int64_t i = 0; i < count; ++i) {
        low = keys[i] < low ? keys[i] : low;
        high = keys[i] > high ? keys[i] : high;
    }
    exact = false;
    while (low < high && !exact) {
        const Key span = high - low;
        const Key middle = low + span / 2 + (span & 1);
        const int64_t reached = count_at_least(keys, count, middle);
        if (reached >= k)
            low = middle;
        else
            high = middle - 1;
        exact = reached == k;
    }
    return low;
}

// One past the index of the n-th key equal to `value`; n >= 1 of them exist.
template <class Key>
SIEVE_INLINE int64_t end_of_ties(const Key* keys, Key value, int64_t n) {
    int64_t i = 0;
    for (; n > 0; ++i) n -= keys[i] == value;
    return i;
}

// The marked indices, ascending. marks are 0 or 1, zero up to a multiple of 8.
SIEVE_INLINE void write_marked(const uint8_t* marks, int64_t count, int32_t* out) {
    for (int64_t base = 0; base < count; base += 8) {
        uint64_t word;
        std::memcpy(&word, marks + base, 8);
        for (; word; word &= word - 1) *out++ = static_cast<int32_t>(base + std::countr_zero(word) / 8);
    }
}

// Writes the indices of the top k of scores[0..count), ascending; 1 <= k <= count. False (and nothing chosen)
// when a score is NaN.
template <class T>
SIEVE_INLINE bool select_row(const T* scores, int64_t count, int64_t k, const SelectScratch<T>& scratch,
                             int32_t* out) {
    using Key = OrderKey<T>;
    Key* __restrict keys = scratch.keys;
    uint8_t* __restrict marks = scratch.marks;
    if (!order_keys(scores, count, keys)) return false;
    bool exact = false;
    const Key bound = threshold(keys, count, k, exact);
    const int64_t above = exact || bound == ~Key(0) ? 0 : count_at_least<Key>(keys, count, bound + 1);
    const int64_t tie_end = exact ? count : end_of_ties(keys, bound, k - above);
    std::fill(marks + count / 8 * 8, marks + (count + 7) / 8 * 8, uint8_t(0));
    for (int64_t i = 0; i < tie_end; ++i) marks[i] = keys[i] >= bound;
    for (int64_t i = tie_end; i < count; ++i) marks[i] = keys[i] > bound;
    write_marked(marks, count, out);
    return true;
}

// One row of a Selection: the count, the indices, 0 in the slots that are not used. Rows with count <= slots
// take all their keys; their scores are not read.
template <class T>
SIEVE_INLINE bool select_into(const T* scores, int64_t count, int64_t slots, const SelectScratch<T>& scratch,
                              int32_t* indices, int32_t* chosen) {
    *chosen = static_cast<int32_t>(std::min(count, slots));
    if (count > slots) return select_row(scores, count, slots, scratch, indices);
    for (int64_t i = 0; i < slots; ++i) indices[i] = i < count ? static_cast<int32_t>(i) : 0;
    return true;
}

// The lowest of the rows that threads note, whichever of them comes first.
class LowestRow {
  public:
    void note(int64_t row) {
        int64_t seen = lowest_.load();
        while (row < seen && !lowest_.compare_exchange_weak(seen, row)) {
        }
    }
    // -1: none was noted.
    int64_t get() const {
        const int64_t lowest = lowest_.load();
        return lowest == none ? -1 : lowest;
    }

  private:
    static constexpr int64_t none = std::numeric_limits<int64_t>::max();
    std::atomic<int64_t> lowest_{none};
};

}  // namespace sieve::cpu
