#include "framework/core/cuda/runtime.h"

#include <algorithm>
#include <array>

namespace sieve::cuda {

// In runtime.cu: the number of usable devices; `reason` says why there is none.
SIEVE_CUDA_TWIN int count_devices(std::string& reason);

namespace {

struct Probe {
    bool built = false, available = false;
    std::string reason = "this build has no CUDA (make CUDA=1 puts it in)";
};

const Probe& probe() {
    static const Probe result = [] {
        Probe p;
        p.built = count_devices != nullptr;
        if (p.built) p.available = count_devices(p.reason) > 0;
        return p;
    }();
    return result;
}

constexpr int remembered = 6;
thread_local const char* op_name = "cuda";
thread_local std::array<Shape, remembered> operand_shapes;
thread_local int operand_count = 0;

}  // namespace

bool built() {
    return probe().built;
}
bool available() {
    return probe().available;
}
std::string why_unavailable() {
    return available() ? "" : probe().reason;
}

OpScope::OpScope(const char* op) : before_(op_name) {
    op_name = op;
}
OpScope::~OpScope() {
    op_name = before_;
    operand_count = 0;
}

void note_operand(const Shape& shape) noexcept {
    operand_shapes[static_cast<size_t>(operand_count++ % remembered)] = shape;
}

std::string current_op() {
    return op_name;
}

std::string current_operands() {
    std::string text;
    for (int i = std::max(0, operand_count - remembered); i < operand_count; ++i)
        text += " " + to_string(operand_shapes[static_cast<size_t>(i % remembered)]);
    return text.empty() ? "" : "on tensors" + text;
}

}  // namespace sieve::cuda
