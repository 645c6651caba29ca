#include "framework/program/interrupt.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>

namespace sieve {
namespace {

volatile std::sig_atomic_t noted = 0;
const char* first_message = "";

extern "C" void note_signal(int signal) {
    if (noted) std::_Exit(128 + signal);
    noted = 128 + signal;
    // What stdio does is not allowed in a signal handler. A message that cannot be written is no failure.
    if (write(STDERR_FILENO, first_message, std::strlen(first_message)) < 0) return;
}

}  // namespace

void catch_interrupts(const char* message) {
    first_message = message;
    std::signal(SIGINT, note_signal);
    std::signal(SIGTERM, note_signal);
}

int interrupted() {
    return noted;
}

}  // namespace sieve
