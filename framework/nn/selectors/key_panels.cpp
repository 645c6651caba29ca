#include "framework/nn/selectors/key_panels.h"

#include "framework/nn/growing_rows.h"
#include "framework/ops/decode_select/decode_select.h"

namespace sieve {

void KeyPanels::append(const Tensor& k) {
    const int64_t each = indexer_panel_keys(k.dtype()), B = k.dim(0), width = k.dim(2);
    if (!panels.defined()) panels = Tensor::empty({B, 0, width, each}, k.dtype());
    const int64_t needed = (length + k.dim(1) + each - 1) / each;
    const Tensor larger = with_room(panels.alias({B, panels.dim(1), width * each}), needed);
    panels = larger.alias({B, larger.dim(1), width, each});
    store_indexer_keys(k, panels, length);
    length += k.dim(1);
}

}  // namespace sieve
