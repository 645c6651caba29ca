#include "framework/core/timed_part.h"

#include <algorithm>
#include <string_view>

#include "framework/core/cuda/runtime.h"
#include "framework/core/error.h"

namespace sieve {
namespace {

thread_local const char* part_name = unnamed_part;
thread_local Pass part_pass = Pass::forward;
thread_local PartTimer* timer = nullptr;

}  // namespace

TimedPart::TimedPart(const char* name, Pass pass) : name_before_(part_name), pass_before_(part_pass) {
    if (timer) timer->charge();
    part_name = name;
    part_pass = pass;
}

TimedPart::~TimedPart() {
    if (timer) timer->charge();
    part_name = name_before_;
    part_pass = pass_before_;
}

const char* current_part() {
    return part_name;
}

PartTimer::PartTimer(Device device) : device_(device) {
    if (timer) fail("part timer: this thread has one already");
    if (!device_.is_cpu()) cuda::synchronize();
    timer = this;
    last_ = std::chrono::steady_clock::now();
}

PartTimer::~PartTimer() {
    if (running_) timer = nullptr;
}

// Called by destructors: what a kernel did wrong is left to the step's own wait, which reports it as well.
void PartTimer::charge() noexcept {
    try {
        if (!device_.is_cpu()) cuda::synchronize();
    } catch (const Error&) {
    }
    const auto now = std::chrono::steady_clock::now();
    auto part = std::find_if(parts_.begin(), parts_.end(),
                             [](const PartSeconds& p) { return std::string_view(p.name) == part_name; });
    if (part == parts_.end()) part = parts_.insert(part, {.name = part_name});
    (part_pass == Pass::forward ? part->forward : part->backward) +=
        std::chrono::duration<double>(now - last_).count();
    last_ = std::chrono::steady_clock::now();
}

const std::vector<PartSeconds>& PartTimer::stop() {
    if (running_) charge();
    running_ = false;
    timer = nullptr;
    return parts_;
}

}  // namespace sieve
