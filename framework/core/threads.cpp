#include "framework/core/threads.h"

#include <atomic>
#include <string>

#include "framework/core/core_share.h"
#include "framework/core/error.h"

namespace sieve {
namespace {
std::atomic<int> configured_threads = 0;  // 0: not set
std::atomic<int> team = 0;                // 0: all
}  // namespace

void set_thread_count(int64_t threads) {
    if (threads < 1 || threads > most_threads)
        fail_usage("threads: " + std::to_string(threads) + "; want 1 to " + std::to_string(most_threads));
    configured_threads = static_cast<int>(threads);
}

bool thread_count_is_set() {
    return configured_threads > 0;
}

int full_thread_count() {
    return configured_threads > 0 ? configured_threads.load() : available_cores();
}

int thread_count() {
    return configured_threads == 0 && team > 0 ? team.load() : full_thread_count();
}

void set_team(int threads) {
    team = threads;
}

}  // namespace sieve
