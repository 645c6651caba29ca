// What libFuzzer calls (make fuzz). Linked with one file of formats/ and built with -fsanitize=fuzzer.
#include <cstdint>
#include <cstdlib>
#include <iostream>

#include "framework/core/error.h"
#include "tests/fuzz/format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const sieve::fuzz::Format format = sieve::fuzz::formats().front();
    try {
        format.read(std::string(reinterpret_cast<const char*>(data), size));
    } catch (const sieve::Error&) {  // refused, as it may be
    } catch (const std::exception& e) {
        std::cerr << format.name << ": " << e.what() << std::endl;
        std::abort();
    }
    return 0;
}
