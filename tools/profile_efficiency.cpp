// profile_efficiency: when is sparse attention faster, and by how much.
#include "framework/measure/efficiency.h"
#include "framework/program/command_line.h"

int main(int argc, char** argv) {
    return sieve::run_program("profile_efficiency", {}, [&] {
        const std::optional<sieve::EfficiencyPlan> plan = sieve::parse_efficiency(argc, argv);
        return plan ? sieve::run_efficiency(*plan) : 0;
    });
}
