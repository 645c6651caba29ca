// Where the time of a step goes. Code that belongs to a part of the work names it while it runs:
//
//   const TimedPart part("attention");
//
// and a PartTimer adds up the seconds by name. The autograd layer keeps the name that was current when a node
// was recorded and takes it up again for the node's backward, so a part is named once, in the forward code.
// Without a PartTimer a TimedPart is two stores to a thread-local variable.
#pragma once

#include <chrono>
#include <vector>

#include "framework/core/device.h"

namespace sieve {

inline constexpr const char* unnamed_part = "other";  // what no TimedPart covers

enum class Pass { forward, backward };

// While one lives, this thread works on `name`, a text that outlives the program. The innermost one counts.
class TimedPart {
  public:
    explicit TimedPart(const char* name, Pass pass = Pass::forward);
    ~TimedPart();
    TimedPart(const TimedPart&) = delete;
    TimedPart& operator=(const TimedPart&) = delete;

  private:
    const char* name_before_;
    Pass pass_before_;
};

const char* current_part();

struct PartSeconds {
    const char* name;
    double forward = 0, backward = 0;
    double total() const { return forward + backward; }
};

// Attributes all time of this thread from its construction to stop(). On a CUDA device it waits for the
// device at each change of part, which makes the whole slower: the total is to be measured without it.
class PartTimer {
  public:
    explicit PartTimer(Device device);  // throws when the thread has one already
    ~PartTimer();
    PartTimer(const PartTimer&) = delete;
    PartTimer& operator=(const PartTimer&) = delete;

    const std::vector<PartSeconds>& stop();  // in the order in which the parts came up

  private:
    friend class TimedPart;
    void charge() noexcept;  // the time since the last call, to the part that is current

    Device device_;
    bool running_ = true;
    std::chrono::steady_clock::time_point last_;
    std::vector<PartSeconds> parts_;
};

}  // namespace sieve
