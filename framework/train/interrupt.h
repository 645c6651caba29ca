// Ctrl-C and SIGTERM as a question that the training loop asks between steps.
#pragma once

namespace sieve {

// From now on SIGINT and SIGTERM are only noted. A second signal ends the program at once.
void catch_interrupts();
// 0, or the exit code of the signal that arrived: 130 (SIGINT), 143 (SIGTERM).
int interrupted();

}  // namespace sieve
