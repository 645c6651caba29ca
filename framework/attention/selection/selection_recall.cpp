#include "framework/attention/selection/selection_recall.h"

#include "framework/attention/selection/common_keys.h"
#include "framework/core/error.h"

namespace sieve {

double selection_recall(const Selection& reference, const Selection& other) {
    if (reference.indices.shape() != other.indices.shape())
        fail("selection_recall: selections are " + to_string(reference.indices.shape()) + " and " +
             to_string(other.indices.shape()) + ", want one shape");
    const Tensor a = reference.indices.to(Device{}), b = other.indices.to(Device{});
    const int64_t length = a.dim(1), slots = a.dim(2), rows = a.dim(0) * length;
    int64_t common = 0, choices = 0;
    for (int64_t row = 0; row < rows; ++row) {
        if (row % length < slots) continue;
        common += common_keys(a.data<int32_t>() + row * slots, b.data<int32_t>() + row * slots, slots);
        choices += slots;
    }
    return choices == 0 ? 1 : static_cast<double>(common) / static_cast<double>(choices);
}

}  // namespace sieve
