// Private to this room.
// The keys of a sequence as scoring reads them, panel by panel; they grow by whole panels.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

struct KeyPanels {
    int64_t length = 0;
    Tensor panels;  // [B,P,width,keys of a panel], undefined before the first key

    void append(const Tensor& k);  // [B,n,width]
};

}  // namespace sieve
