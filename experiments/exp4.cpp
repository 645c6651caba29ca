// Experiment 4: a small mixture-of-experts language model, trained with classic and with sparse attention.
#include <fmt/format.h>

#include "framework/runs/experiment.h"

int main(int argc, char** argv) {
    return sieve::run_program("exp4", sieve::experiment_flags(), [&] {
        bool allow_different = false;
        const sieve::ExperimentCommand command = sieve::parse_experiment(
            argc, argv,
            "Trains a small mixture-of-experts language model with classic causal attention and with "
            "DeepSeek Sparse Attention, and compares quality, speed and memory.",
            {{"allow_different",
              "compare models whose settings, text or machine differ; what differs is listed, no criterion "
              "is judged",
              &allow_different}});
        if (command.done) return 0;
        if (command.print_config) {
            fmt::print("{}", sieve::config_to_toml(command.config));
            return 0;
        }
        return sieve::run_experiment(command, allow_different);
    });
}
