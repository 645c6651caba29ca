#include "framework/core/threads.h"

#include <string>

#include "framework/core/error.h"

namespace sieve {
namespace {
int configured_threads = 0;  // 0: as many as OpenMP offers
}

void set_thread_count(int threads) {
    if (threads < 1) fail_usage("threads: " + std::to_string(threads) + "; want at least 1");
    configured_threads = threads;
    omp_set_num_threads(threads);
}

int thread_count() {
    return configured_threads ? configured_threads : omp_get_max_threads();
}

}  // namespace sieve
