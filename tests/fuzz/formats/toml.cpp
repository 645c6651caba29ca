// A file of configuration keys as people write it (--config).
#include <array>

#include "framework/program/command_line.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::vector<std::string> samples() {
    ExperimentConfig config;
    return {config_to_toml(config), "preset = \"medium\"\nsparse_top_k = [64, 64, 32, 32, 16, 16]\n",
            "# comment\nn_layers = 0x4\nlearning_rate = 1e-3 # rate\ndata = \"b\\u00E9.txt\"\n"};
}

std::vector<std::string> attacks() {
    constexpr size_t many = 2'000'000;
    const std::string x(many, 'x');
    return {x,
            x + " = 1",
            x.substr(0, 200'000) + " = 1",  // a name that is compared with every key
            "data = \"" + x + "\"",
            "selector = '" + x + "'",
            "n_layers = " + std::string(many, '1'),
            "learning_rate = 1e" + std::string(many, '9'),
            "sparse_top_k = " + std::string(many, '['),
            "sparse_top_k = " + repeated("{a=", many / 4),
            "sparse_top_k = [" + repeated("8,", many / 4) + "8]",
            repeated("a.", many / 4) + "a = 1",
            repeated("[[a]]\n", many / 8),
            repeated("d_model = 1\n", many / 16),
            std::string(many, '\n')};
}

void read(const std::string& input) {
    std::string path = scratch_file("config.toml", input);
    std::array<std::string, 3> words{"exp4", "--config", path};
    std::array<char*, 3> argv{words[0].data(), words[1].data(), words[2].data()};
    parse_experiment(static_cast<int>(argv.size()), argv.data(), "");
}

const RegisteredFormat registered({"toml", samples, read, attacks});

}  // namespace
}  // namespace sieve::fuzz
