// Keeping a selection for later in half the memory.
#pragma once

#include "framework/attention/selection/selected_keys.h"
#include "framework/attention/selection/selection.h"

namespace sieve {

// A selection as a backward keeps it: on the CPU in 16 bits where they hold every key, since the selections
// of all layers wait there for their backwards.
class SavedSelection {
  public:
    explicit SavedSelection(const Selection& selection);
    SelectedKeys keys() const;

  private:
    uint16_t* short_indices() const { return reinterpret_cast<uint16_t*>(indices_.data<uint8_t>()); }

    Tensor indices_, counts_;
    int64_t slots_;
    bool short_;
};

}  // namespace sieve
