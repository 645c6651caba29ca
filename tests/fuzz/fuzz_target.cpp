// What libFuzzer calls (make fuzz). Linked with one file of formats/ and built with -fsanitize=fuzzer.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include "framework/core/error.h"
#include "tests/fuzz/format.h"

namespace {

const sieve::fuzz::Format& format() {
    static const sieve::fuzz::Format only = sieve::fuzz::formats().front();
    return only;
}

}  // namespace

// Before libFuzzer reads its corpus: the format's valid samples join it, in the folder that $SIEVE_FUZZ_SEEDS names.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
    const char* folder = std::getenv("SIEVE_FUZZ_SEEDS");
    if (!folder) return 0;
    int count = 0;
    for (const std::string& sample : format().samples())
        std::ofstream(std::string(folder) + "/sample" + std::to_string(count++), std::ios::binary) << sample;
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    try {
        format().read(std::string(reinterpret_cast<const char*>(data), size));
    } catch (const sieve::Error&) {  // refused, as it may be
    } catch (const std::exception& e) {
        std::cerr << format().name << ": " << e.what() << std::endl;
        std::abort();
    }
    return 0;
}
