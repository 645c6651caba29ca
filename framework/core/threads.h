// Threads, by OpenMP. No bits depend on their number.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>

namespace sieve {

inline constexpr int64_t most_threads = 1024;
void set_thread_count(int64_t threads);  // 1 to most_threads; throws a usage error otherwise
bool thread_count_is_set();
// The number of threads set, otherwise one for each available core.
int full_thread_count();
// The threads of the next parallel loop: all of those, or the team for which other programs leave room.
int thread_count();
void set_team(int threads);  // for core_share.h; 0: all

// Calls body(begin, end) on disjoint contiguous parts of [0, n), at most one part a thread, none shorter than
// `grain` unless n is. Runs in the caller when one part suffices or when already inside a parallel region.
// The first exception thrown by a part is rethrown in the caller.
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& body) {
    if (n <= 0) return;
    const int64_t most = std::max<int64_t>(1, n / std::max<int64_t>(1, grain));
    const int parts = omp_in_parallel() ? 1 : static_cast<int>(std::min<int64_t>(thread_count(), most));
    if (parts <= 1) {
        body(int64_t{0}, n);
        return;
    }
    std::exception_ptr error;
#pragma omp parallel num_threads(parts)
    {
        const int64_t part = omp_get_thread_num();
        try {
            body(n * part / parts, n * (part + 1) / parts);
        } catch (...) {
#pragma omp critical
            if (!error) error = std::current_exception();
        }
    }
    if (error) std::rethrow_exception(error);
}

// Calls body(i) for each i in [0, n), handed out one at a time to whichever thread is free: for tasks of
// unequal cost. Each task must write only what is its own, in its own order: then the bits do not depend on
// the schedule.
template <class F>
void parallel_tasks(int64_t n, F&& body) {
    const int parts = omp_in_parallel() ? 1 : static_cast<int>(std::min<int64_t>(thread_count(), n));
    if (parts <= 1) {
        for (int64_t i = 0; i < n; ++i) body(i);
        return;
    }
    std::exception_ptr error;
#pragma omp parallel for num_threads(parts) schedule(dynamic, 1)
    for (int64_t i = 0; i < n; ++i) {
        try {
            body(i);
        } catch (...) {
#pragma omp critical
            if (!error) error = std::current_exception();
        }
    }
    if (error) std::rethrow_exception(error);
}

}  // namespace sieve
