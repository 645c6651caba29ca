// How many threads a program may use beside other programs. The threads of a parallel loop wait for one another
// at its end, so a team that has more threads than there are free cores waits in every loop for the thread that
// got none, and spins meanwhile: beside one busy program two threads on two cores are many times slower than one.
// As no result depends on the number of threads, the team can change between two steps.
#pragma once

#include <string>

namespace sieve {

// The CPU quota of the process's control groups, in cores (1.5: three processors' worth of time in two); the
// lowest of the group and those above it, infinity when none has one.
double cpu_quota();

// The processors that the process may run on (its affinity, OMP_NUM_THREADS), and no more than its quota, rounded
// up; at least 1.
int available_cores();

// Lets the team follow what other programs leave free, from now on: to be called between two steps, as often as
// one likes (it looks at the system four times a second at most). Where the number of threads was set, it does
// nothing. The first time that it takes threads away it says so on stderr.
void share_cores();

// What share_cores decides, apart from the system: for tests.
class CoreShare {
  public:
    // A team of at most `most` threads on a machine of `cores`.
    CoreShare(int most, int cores) : most_(most), cores_(cores) {}

    // Others had `running` threads running, `seconds` after the last look; the team from now on. One look alone
    // decides nothing: a program that ran for a moment is no reason to wait for it.
    int note(double seconds, int running);

  private:
    int most_, cores_;
    double busy_ = 0;  // threads of others, averaged over about a second
};

// Private parts, for tests: the number behind "procs_running" in the text of /proc/stat, -1 without one; the
// quota in cpu.max ("150000 100000": 1.5; "max 100000": infinity).
int running_processes(const std::string& stat);
double quota_in(const std::string& cpu_max);

}  // namespace sieve
