#include "framework/attention/selection/saved_selection.h"

#include "framework/core/threads.h"

namespace sieve {

SavedSelection::SavedSelection(const Selection& selection)
    : indices_(selection.indices),
      counts_(selection.counts),
      slots_(selection.indices.dim(2)),
      short_(selection.indices.device().is_cpu() && selection.indices.dim(1) <= int64_t{1} << 16) {
    if (!short_) return;
    indices_ = Tensor::empty(Shape{selection.indices.numel(), 2}, DType::uint8);
    const int32_t* from = selection.indices.data<int32_t>();
    uint16_t* to = short_indices();
    parallel_for(selection.indices.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) to[i] = static_cast<uint16_t>(from[i]);
    });
}

SelectedKeys SavedSelection::keys() const {
    return {.indices = short_ ? nullptr : indices_.data<int32_t>(),
            .short_indices = short_ ? short_indices() : nullptr,
            .counts = counts_.data<int32_t>(),
            .slots = slots_};
}

}  // namespace sieve
