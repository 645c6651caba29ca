// Command lines of the programs: config keys as flags, presets, TOML files, help in groups, and errors for
// people.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "framework/core/error.h"
#include "framework/program/config.h"

namespace sieve {

struct ExperimentCommand {
    ExperimentConfig config;
    bool resume = false;
    bool print_config = false;
    bool done = false;  // --help or --version was given and printed: nothing is left to do
};

// A flag of one program beside the keys of the configuration. A list takes one value each time it is given, a
// truth value is a switch.
struct ProgramOption {
    std::string name, help;
    std::variant<ConfigValue, std::vector<std::string>*> value;
};

// Precedence: preset < --init_from FOLDER (hf_config.h) < --config FILE (config_file.h) < flags. Unknown flags throw a usage error with a
// suggestion, and so does an empty text, which is what a shell makes of a variable that is not set.
ExperimentCommand parse_experiment(int argc, char** argv, const std::string& description,
                                   const std::vector<ProgramOption>& options = {});

// The preset that the command line names, else `fallback`: it sets the defaults of the other flags, so it
// must be known before they are declared.
std::string find_preset(int argc, char** argv, const std::string& fallback);

// The same config as TOML, for --print_config and as a --config file.
std::string config_to_toml(const ExperimentConfig& config);

// What a program's command line calls the sizes that errors speak of: {{SizeKind::batch, "--batch_size"}}.
using SizeFlags = std::map<SizeKind, std::string>;
const SizeFlags& experiment_flags();  // of parse_experiment: the keys of the configuration

// "...; lower the batch or the vocabulary (--batch_size or --vocab_size)"
std::string message_of(const Error& error, const SizeFlags& flags);

// Runs a program's body and turns errors into one line on stderr and the exit code that ErrorKind documents.
// A standard output that is closed, or could not be written to the end, is a bad file. A write beyond the
// limit of `ulimit -f` is an error like that of a full disk, and ends no program.
int run_program(const std::string& name, const SizeFlags& flags, const std::function<int()>& body);

inline constexpr const char* exit_codes_help =
    "Exit codes: 0 ok, 1 failure, 2 usage, 3 bad file, 4 diverged, 5 out of memory, 130/143 interrupted.";

// A small command line for tools: declared options, each "--name VALUE" or a switch.
class ToolCommand {
  public:
    ToolCommand(std::string name, std::string description);
    // The options declared from here on stand under this heading in the help.
    void group(const std::string& heading);
    // A value of any type that a configuration has; a truth value becomes a switch.
    void option(const std::string& name, const ConfigValue& value, const std::string& help);
    template <class T>
    void option(const std::string& name, T& value, const std::string& help) {
        option(name, ConfigValue(&value), help);
    }
    void positional(const std::string& name, std::string& value, const std::string& help);
    // False when --help or --version was printed. Throws usage errors with suggestions.
    bool parse(int argc, char** argv);
    // Whether the command line held this option, be its value the default or empty.
    bool given(const std::string& name) const { return given_.contains(name); }

  private:
    struct Entry {
        std::string name, help, group;
        ConfigValue value;
        bool positional;
    };
    std::string name_, description_, group_ = "Options";
    std::vector<Entry> entries_;
    std::set<std::string> given_;
};

}  // namespace sieve
