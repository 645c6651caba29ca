// Ctrl-C and SIGTERM as a question that the training loop asks between steps.
#pragma once

namespace sieve {

// From now on SIGINT and SIGTERM are only noted. A second signal ends the program at once. The first prints
// `message` on stderr: what is finished before the program heeds the signal may take a while.
void catch_interrupts(const char* message = "");
inline constexpr const char* finishing_step =
    "\nfinishing this step, then saving; a second Ctrl-C ends at once\n";
// 0, or the exit code of the signal that arrived: 130 (SIGINT), 143 (SIGTERM).
int interrupted();

}  // namespace sieve
