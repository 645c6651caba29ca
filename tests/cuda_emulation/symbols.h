// The program's own symbol table. It tells where __shared__ variables lie and what kernels are called.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace sieve::cuda_emulation {

struct SharedVariable {
    std::string owner;  // mangled name of the function around it, without the _Z
    int file;           // number of the source file when the name is known in that file only, else 0
    char* address;
    size_t bytes;
};

// Every __shared__ array and scalar of the program; none when the program is stripped.
const std::vector<SharedVariable>& shared_variables();

// Bytes of the __shared__ variables that the kernel itself declares (not those of functions that it calls).
size_t static_shared_bytes(const void* kernel);

// The kernel's name for people, without its parameters; "" when it is not known.
std::string kernel_name(const void* kernel);

}  // namespace sieve::cuda_emulation
