#include "framework/core/threads.h"

#include <string>

#include "framework/core/error.h"

namespace sieve {
namespace {
int configured_threads = 0;  // 0: as many as OpenMP offers
}

void set_thread_count(int64_t threads) {
    if (threads < 1 || threads > most_threads)
        fail_usage("threads: " + std::to_string(threads) + "; want 1 to " + std::to_string(most_threads));
    configured_threads = static_cast<int>(threads);
    omp_set_num_threads(configured_threads);
}

int thread_count() {
    return configured_threads ? configured_threads : omp_get_max_threads();
}

}  // namespace sieve
