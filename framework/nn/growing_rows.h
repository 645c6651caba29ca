// Tensors that grow row by row: what caches keep of a sequence. Storage doubles when it is full. CPU.
#pragma once

#include "framework/core/tensor.h"

namespace sieve {

// The same rows [outer,C,inner] with room for `needed`, at least twice as many as before; new ones are zero.
Tensor with_room(const Tensor& rows, int64_t needed);

// Appends x [B,G,n,w] to `held` [B,G,C,w] (undefined: nothing yet), of whose C rows `length` are in use. Throws when
// x does not continue what is held; `what` names it.
void append_rows(const char* what, Tensor& held, int64_t length, const Tensor& x);

}  // namespace sieve
