#include "framework/train/interrupt.h"

#include <csignal>
#include <cstdlib>

namespace sieve {
namespace {

volatile std::sig_atomic_t noted = 0;

extern "C" void note_signal(int signal) {
    if (noted) std::_Exit(128 + signal);
    noted = 128 + signal;
}

}  // namespace

void catch_interrupts() {
    std::signal(SIGINT, note_signal);
    std::signal(SIGTERM, note_signal);
}

int interrupted() {
    return noted;
}

}  // namespace sieve
