#include "framework/core/core_share.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/core/threads.h"
#include "framework/program/device.h"
#include "tests/support/testing.h"

using namespace sieve;

namespace {

// The team after `looks` of a quarter of a second, all with `running` threads of others.
int after(CoreShare share, int looks, int running) {
    int team = 0;
    for (int i = 0; i < looks; ++i) team = share.note(0.25, running);
    return team;
}

}  // namespace

TEST_CASE("core_share: the team shrinks by the threads that others keep running, and never to nothing") {
    for (const int cores : {1, 2, 7, 64})
        for (const int most : {1, 2, 7, 64})
            for (const int running : {0, 1, 2, 6, 63, 1000}) {
                INFO(cores << " cores, at most " << most << " threads, " << running << " of others");
                CHECK(after(CoreShare(most, cores), 40, running) ==
                      std::max(1, std::min(most, cores - running)));
            }
}

TEST_CASE("core_share: one look decides nothing, a second does; the team comes back when others have ended") {
    for (const double seconds : {0.25, 1.0, 60.0}) {
        CoreShare share(2, 2);
        CHECK(share.note(seconds, 1) == 2);
        for (int i = 0; i < 3; ++i) share.note(seconds, 1);
        CHECK(share.note(seconds, 1) == 1);
        CHECK(share.note(seconds, 0) == 1);
        for (int i = 0; i < 3; ++i) share.note(seconds, 0);
        CHECK(share.note(seconds, 0) == 2);
    }
}

TEST_CASE("core_share: what the system's files say") {
    CHECK(running_processes("cpu  1 2 3\nprocesses 99\nprocs_running 3\nprocs_blocked 0\n") == 3);
    CHECK(running_processes("cpu  1 2 3\n") == -1);
    CHECK(running_processes("") == -1);
    CHECK(running_processes("procs_running ") == -1);
    const double none = std::numeric_limits<double>::infinity();
    CHECK(quota_in("max 100000\n") == none);
    CHECK(quota_in("150000 100000\n") == 1.5);
    CHECK(quota_in("5000 100000") == 0.05);
    CHECK(quota_in("") == none);
    CHECK(quota_in("100000") == none);
    CHECK(quota_in("-1 100000") == none);
    CHECK(quota_in("100000 0") == none);
    CHECK(cpu_quota() > 0);
    CHECK(available_cores() >= 1);
    CHECK(available_cores() <= std::max(1.0, std::ceil(cpu_quota())));
}

// A classic and a sparse model of one experiment may be compared whatever else ran beside them.
TEST_CASE("core_share: what a run was made with does not depend on other programs") {
    const MachineUsed alone = machine_used(Device{});
    set_team(1);
    const MachineUsed beside_others = machine_used(Device{});
    const int team = thread_count();
    set_team(0);
    CHECK(alone.threads == full_thread_count());
    CHECK(beside_others.threads == alone.threads);
    CHECK(team == (thread_count_is_set() ? alone.threads : 1));
    CHECK(thread_count() == alone.threads);
}

TEST_CASE("core_share: a number of threads that was set stays") {
    const int before = thread_count();
    const bool was_set = thread_count_is_set();
    set_thread_count(3);
    for (int i = 0; i < 3; ++i) share_cores();
    CHECK(thread_count() == 3);
    if (was_set) set_thread_count(before);
}
