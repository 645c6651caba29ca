#include "tests/cuda_emulation/shared_memory.h"

#include <algorithm>
#include <cstring>

#include "cuda_emulation/engine.h"
#include "tests/cuda_emulation/sanitizer.h"
#include "tests/cuda_emulation/symbols.h"

namespace sieve::cuda_emulation {

namespace {

constexpr size_t red_zone = 256;
constexpr unsigned char stale = 0xFF, zone_mark = 0xFD;

// The dynamic part lies between two red zones; what a launch does not use is red zone too.
alignas(128) unsigned char buffer[red_zone + max_shared_bytes + red_zone];
unsigned char* const dynamic_start = buffer + red_zone;
size_t dynamic_size = 0;

}  // namespace

void refill_shared_memory(size_t dynamic_bytes) {
    dynamic_size = dynamic_bytes;
    unsigned char* end = dynamic_start + dynamic_bytes;
    unpoison(buffer, sizeof buffer);
    std::memset(buffer, zone_mark, red_zone);
    std::memset(dynamic_start, stale, dynamic_bytes);
    std::memset(end, zone_mark, red_zone);
    poison(buffer, red_zone);
    poison(end, buffer + sizeof buffer - end);
    for (const SharedVariable& variable : shared_variables())
        std::memset(variable.address, stale, variable.bytes);
}

bool red_zones_are_intact(size_t dynamic_bytes) {
    if (address_sanitizer) return true;
    auto intact = [](const unsigned char* zone) {
        return std::all_of(zone, zone + red_zone, [](unsigned char c) { return c == zone_mark; });
    };
    return intact(buffer) && intact(dynamic_start + dynamic_bytes);
}

bool is_shared(const void* pointer, size_t bytes) {
    auto inside = [&](const void* start, size_t size) {
        const size_t offset = static_cast<const char*>(pointer) - static_cast<const char*>(start);
        return pointer >= start && offset <= size && bytes <= size - offset;
    };
    return inside(dynamic_start, dynamic_size) ||
           std::any_of(shared_variables().begin(), shared_variables().end(),
                       [&](const SharedVariable& v) { return inside(v.address, v.bytes); });
}

void* dynamic_shared_memory() {
    return dynamic_start;
}

}  // namespace sieve::cuda_emulation
