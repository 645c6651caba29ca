// SIEVE_CUDA_TWIN marks the functions that exist only where CUDA was built in: every kernel of namespace
// cuda, and the runtime below it. They are weak symbols, so that one set of objects serves a program without
// CUDA, one with it, and the tests, which link the same kernels compiled for an emulated device. Nothing
// calls them unless a tensor lies on a CUDA device, and no such tensor can be made where cuda::built() is
// false.
#pragma once

#define SIEVE_CUDA_TWIN __attribute__((weak))
