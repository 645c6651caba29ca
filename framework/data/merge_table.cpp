#include "framework/data/merge_table.h"

#include <bit>

namespace sieve {

void MergeTable::reserve(size_t pairs) {
    slots_.assign(std::bit_ceil(2 * pairs + 1), {});
}

void MergeTable::set(int32_t left, int32_t right, int32_t rank) {
    slots_[find(left, right)] = {left, right, rank};
}

}  // namespace sieve
