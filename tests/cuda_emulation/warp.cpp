#include "cuda_emulation/warp.h"

#include "cuda_runtime.h"

namespace sieve::cuda_emulation {

unsigned int segment_end(const char* name, unsigned int lane, int width, const Where& where) {
    if (width < 1 || width > 32 || (width & (width - 1)) != 0)
        thread_error(
            std::string(name) + ": width " + std::to_string(width) + ", want a power of two up to 32", where);
    return lane | (width - 1);
}

void resolve_shuffle(uint32_t lanes, void* const (&operands)[32]) {
    uint64_t values[32] = {};
    for (int lane = 0; lane < 32; ++lane)
        if (lanes >> lane & 1) values[lane] = static_cast<const Shuffle*>(operands[lane])->bits;
    for (int lane = 0; lane < 32; ++lane) {
        if (!(lanes >> lane & 1)) continue;
        auto& own = *static_cast<Shuffle*>(operands[lane]);
        if (!(lanes >> own.source & 1))
            throw std::runtime_error("lane " + std::to_string(lane) + " reads lane " +
                                     std::to_string(own.source) +
                                     ", which takes no part (not in the mask, ended, or not in the block)");
        own.bits = values[own.source];
    }
}

void resolve_nothing(uint32_t, void* const (&)[32]) {}

void resolve_ballot(uint32_t lanes, void* const (&operands)[32]) {
    uint32_t votes = 0;
    for (int lane = 0; lane < 32; ++lane)
        if (lanes >> lane & 1) votes |= uint32_t(static_cast<const Lane*>(operands[lane])->value) << lane;
    for (int lane = 0; lane < 32; ++lane)
        if (lanes >> lane & 1) static_cast<Lane*>(operands[lane])->result = votes;
}

void resolve_match_any(uint32_t lanes, void* const (&operands)[32]) {
    for (int lane = 0; lane < 32; ++lane) {
        if (!(lanes >> lane & 1)) continue;
        auto& own = *static_cast<Lane*>(operands[lane]);
        own.result = 0;
        for (int other = 0; other < 32; ++other)
            if ((lanes >> other & 1) && static_cast<const Lane*>(operands[other])->value == own.value)
                own.result |= 1u << other;
    }
}

}  // namespace sieve::cuda_emulation
