#include "tests/cuda_emulation/tests/sample.cu"
