// Experiment 3: the dense mixture-of-experts baseline, at the best learning rate and number of experts.
#include <fmt/format.h>

#include "framework/runs/baseline.h"

int main(int argc, char** argv) {
    return sieve::run_program("exp3", sieve::experiment_flags(), [&] {
        int64_t search_steps = 200;
        const sieve::ExperimentCommand command = sieve::parse_experiment(
            argc, argv,
            "Searches the learning rate and the experts of the dense mixture-of-experts model with short "
            "runs, "
            "then trains it for classic_steps at the best setting: the baseline of exp4.",
            {{"search_steps", "steps of each short run; 0: no search", &search_steps}});
        if (command.done) return 0;
        if (command.print_config) {
            fmt::print("{}", sieve::config_to_toml(command.config));
            return 0;
        }
        return sieve::run_baseline(command, search_steps);
    });
}
