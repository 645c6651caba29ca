#include "framework/program/command_line.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <new>
#include <system_error>

#include "framework/core/version.h"
#include "framework/io/json_file.h"
#include "framework/program/config_file.h"
#include "framework/program/hf_config.h"

namespace sieve {
namespace {

// Bare flag names of an app, for suggestions.
std::vector<std::string> flag_names(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::Option* option : app.get_options())
        for (const std::string& name : option->get_lnames()) names.push_back(name);
    return names;
}

[[noreturn]] void refuse_unknown(const CLI::App& app, const std::vector<std::string>& extras) {
    const std::string given = extras.empty() ? "?" : extras.front();
    const std::string bare = given.substr(std::min(given.find_first_not_of('-'), given.size()));
    const std::string nearest = nearest_name(bare.substr(0, bare.find('=')), flag_names(app));
    fail_usage(fmt::format("unknown argument {}{} (--help lists all)", shortened(given),
                           nearest.empty() ? "" : fmt::format(", did you mean --{}?", nearest)));
}

void declare_common(CLI::App& app) {
    const Version built = version();
    app.footer(exit_codes_help);
    app.set_help_flag("--help,-h", "print this and exit");
    app.set_version_flag("--version", fmt::format("sieve {} ({})", built.number, built.commit),
                         "print the version and the commit it was built from, and exit");
    app.allow_extras();
}

// False when what was asked for is printed: --help or --version.
bool parse_or_refuse(CLI::App& app, int argc, char** argv) {
    try {
        app.parse(argc, argv);
        return true;
    } catch (const CLI::CallForHelp&) {
        std::cout << app.help();
        return false;
    } catch (const CLI::CallForVersion& e) {
        std::cout << e.what() << '\n';
        return false;
    } catch (const CLI::ArgumentMismatch& e) {  // "--d_model: 1 required INT missing"
        const std::string what = e.what();
        fail_usage(fmt::format("{}: needs a value", what.substr(0, what.find(':'))));
    } catch (const CLI::ParseError& e) {
        fail_usage(e.what());
    }
}

const char* type_name(const ConfigValue& value) {
    if (std::holds_alternative<int64_t*>(value)) return "INT";
    if (std::holds_alternative<double*>(value)) return "FLOAT";
    return std::holds_alternative<PerLayer*>(value) ? "INT,..." : "TEXT";
}

// All values are read from their texts by set_from_text, as those of files and studies are. `name`: "--name",
// or bare for a positional one.
CLI::Option* add_value(CLI::App& app, const std::string& name, const ConfigValue& value,
                       const std::string& help, bool may_be_empty = false) {
    const std::string key = name.substr(name.find_first_not_of('-'));
    const auto read = [key, value, may_be_empty](const std::string& text) {
        if (text.empty() && !may_be_empty && std::holds_alternative<std::string*>(value))
            fail_usage(fmt::format("{}: empty; leave it out, or is a variable in the command not set?", key));
        set_from_text(value, key, text);
    };
    if (std::holds_alternative<bool*>(value)) return app.add_flag(name, help)->each(read);
    return app.add_option_function<std::string>(name, read, help)
        ->type_name(type_name(value))
        ->default_str(text_of(value));
}

CLI::Option* add_option(CLI::App& app, const ProgramOption& option) {
    const std::string flag = "--" + option.name;
    if (auto* const* list = std::get_if<std::vector<std::string>*>(&option.value))
        return app.add_option(flag, **list, option.help)
            ->allow_extra_args(false)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    return add_value(app, flag, std::get<ConfigValue>(option.value), option.help)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

// What must be known before the other flags are declared.
struct FirstOptions {
    std::string preset, config_file, init_from;  // empty: not given
};

FirstOptions first_options(int argc, char** argv) {
    CLI::App app;
    FirstOptions first;
    app.set_help_flag();
    app.allow_extras();
    for (const auto& [flag, value] :
         {std::pair{"--preset", &first.preset}, std::pair{"--config", &first.config_file},
          std::pair{"--init_from", &first.init_from}})
        add_value(app, flag, value, "")->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    parse_or_refuse(app, argc, argv);
    return first;
}

std::string toml_text(const std::string& text) {
    std::string quoted = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\')
            quoted += {'\\', c};
        else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
            quoted += fmt::format("\\u{:04X}", static_cast<int>(c));
        else
            quoted += c;
    }
    return quoted + "\"";
}

// As it stands in a TOML file.
struct TomlText {
    std::string operator()(const std::string* value) const { return toml_text(*value); }
    std::string operator()(const NamedChoice& value) const { return toml_text(value.text()); }
    std::string operator()(const double* value) const {
        return *value == 0 && std::signbit(*value) ? "-0.0"
                                                   : fmt::format("{}", *value);  // -0 is a whole number
    }
    std::string operator()(const PerLayer* value) const {
        return value->values().size() == 1 ? to_string(*value) : "[" + to_string(*value) + "]";
    }
    template <class T>
    std::string operator()(const T* value) const {
        return fmt::format("{}", *value);
    }
};

}  // namespace

std::string find_preset(int argc, char** argv, const std::string& fallback) {
    const std::string preset = first_options(argc, argv).preset;
    return preset.empty() ? fallback : preset;
}

namespace {

// What a --config file may set: the keys, and what a program has beside them.
std::vector<FileKey> file_keys(const CLI::App& app, ExperimentConfig& config,
                               const std::vector<ProgramOption>& options) {
    std::vector<FileKey> keys;
    for (const ConfigKey& key : config_keys(config)) keys.push_back({key.name, key.value});
    for (const ProgramOption& option : options) keys.push_back({option.name, option.value});
    for (FileKey& key : keys) key.given = app.count("--" + key.name) > 0;
    return keys;
}

}  // namespace

ExperimentCommand parse_experiment(int argc, char** argv, const std::string& description,
                                   const std::vector<ProgramOption>& options) {
    ExperimentCommand command;
    ExperimentConfig& config = command.config;
    const FirstOptions first = first_options(argc, argv);
    std::optional<ConfigFile> file;
    if (!first.config_file.empty()) file.emplace(first.config_file);
    const std::string preset =
        first.preset.empty() && file ? file->text_of("preset").value_or("") : first.preset;
    apply_preset(config, preset.empty() ? config.preset : preset);
    // A key that a run's config.json lacks is younger than the run, and means what it means in such a file.
    if (file && file->is_of_run()) config = {.preset = config.preset};
    const std::string folder = !first.init_from.empty()     ? first.init_from
                               : file && !file->is_of_run() ? file->text_of("init_from").value_or("")
                                                            : "";
    if (!folder.empty()) apply_hf_folder(config, folder);
    const ExperimentConfig of_folder = config;

    CLI::App app(description);
    declare_common(app);
    for (CLI::Option* option : {app.get_help_ptr(), app.get_version_ptr()}) option->group("Running");
    const auto add_last = [&](const std::string& name, const ConfigValue& value, const std::string& help,
                              const char* group, bool may_be_empty = false) {
        add_value(app, "--" + name, value, help, may_be_empty)
            ->group(group)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    };
    std::string config_file;
    const char* const first_group = "Start here";
    add_last("preset", &config.preset, "small, medium, large or long: sets the defaults of the other flags",
             first_group);
    add_last("config", &config_file,
             "a TOML file of these keys, or the config.json of a run; flags win over it", first_group);
    add_last("resume", &command.resume, "go on where an interrupted run stopped; finished stages are kept",
             first_group);
    add_last("print_config", &command.print_config, "print the configuration as TOML and exit", first_group);
    for (const ProgramOption& option : options) add_option(app, option)->group(first_group);
    for (const ConfigKey& key : config_keys(config))
        add_last(key.name, key.value, key.help, key.group, key.is(KeyNature::may_be_empty));
    if (!parse_or_refuse(app, argc, argv)) {
        command.done = true;
        return command;
    }
    if (!app.remaining().empty()) refuse_unknown(app, app.remaining());
    if (file) file->set(file_keys(app, config, options));
    if (!folder.empty()) check_shape_of_hf_folder(config, of_folder);
    validate(config);
    return command;
}

std::string config_to_toml(const ExperimentConfig& config) {
    ExperimentConfig copy = config;
    std::string text = fmt::format("preset = \"{}\"\n", config.preset);
    const char* group = "";
    for (const ConfigKey& key : config_keys(copy)) {
        if (std::string(group) != key.group) text += fmt::format("\n# {}\n", group = key.group);
        text += fmt::format("{} = {}  # {}\n", key.name, std::visit(TomlText(), key.value), key.help);
    }
    return text;
}

const SizeFlags& experiment_flags() {
    static const SizeFlags flags{{SizeKind::batch, "--batch_size"},
                                 {SizeKind::length, "--max_seq_len"},
                                 {SizeKind::width, "--d_model"},
                                 {SizeKind::layers, "--n_layers"},
                                 {SizeKind::experts, "--num_experts"},
                                 {SizeKind::expert_width, "--d_ff"},
                                 {SizeKind::vocabulary, "--vocab_size"},
                                 {SizeKind::selected_keys, "--sparse_top_k"},
                                 {SizeKind::text, "--data"}};
    return flags;
}

std::string message_of(const Error& error, const SizeFlags& flags) {
    std::vector<std::string> names;
    for (const SizeKind size : error.lower())
        if (flags.contains(size)) names.push_back(flags.at(size));
    return names.empty() ? error.what() : fmt::format("{} ({})", error.what(), one_of(names));
}

namespace {

// A file that is opened while 0, 1 or 2 is free gets that number, and whatever is printed with it.
void hold_standard_streams() {
    const bool closed = ::fcntl(STDOUT_FILENO, F_GETFD) < 0;
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::fcntl(fd, F_GETFD) < 0) ::dup2(::open("/dev/null", O_RDWR), fd);
    if (closed) fail_bad_file("standard output: closed; send it to a file or to /dev/null");
}

std::string cannot_print(const std::string& reason) {
    return "standard output: cannot write" + (reason.empty() ? "" : ": " + reason);
}

void finish_printing() {
    errno = 0;
    std::cout.flush();
    const bool failed_now = std::fflush(stdout) != 0;
    if (failed_now || std::ferror(stdout) || !std::cout)
        fail_bad_file(cannot_print(errno ? std::strerror(errno) : ""));
}

// The errors of libraries in this program's words.
[[noreturn]] void rethrow_as_ours(const std::filesystem::filesystem_error& e) {
    const std::string path = e.path1().empty() ? "a file" : e.path1().string();
    fail_bad_file(fmt::format("{}: cannot read or write: {}", path, e.code().message()));
}

int run_and_print(const std::function<int()>& body) {
    try {
        hold_standard_streams();
        const int status = body();
        finish_printing();
        return status;
    } catch (const std::filesystem::filesystem_error& e) {
        rethrow_as_ours(e);
    } catch (const std::system_error& e) {  // fmt::print throws it
        if (std::ferror(stdout)) fail_bad_file(cannot_print(e.code().message()));
        throw;
    }
}

// glibc lets the size from which a block is the system's own grow to 32 MiB with what is freed. Smaller ones
// stay with the process: half as much memory again once the second model trains.
void give_large_blocks_back() {
    ::mallopt(M_MMAP_THRESHOLD, 1 << 20);
    ::mallopt(M_TRIM_THRESHOLD, 8 << 20);
}

}  // namespace

int run_program(const std::string& name, const SizeFlags& flags, const std::function<int()>& body) {
    std::signal(SIGXFSZ, SIG_IGN);
    give_large_blocks_back();
    const auto ended_by = [&](const Error& error) {
        std::cerr << name << ": " << message_of(error, flags) << std::endl;
        return static_cast<int>(error.kind());
    };
    try {
        return run_and_print(body);
    } catch (const Error& e) {
        return ended_by(e);
    } catch (const std::bad_alloc&) {  // beside tensors and text, which say what they are
        std::vector<SizeKind> lower{SizeKind::batch, SizeKind::length, SizeKind::width};
        std::erase_if(lower, [&](SizeKind size) { return !flags.contains(size); });
        std::string message = "out of memory: the system gives no more";
        if (!lower.empty()) message += "; lower " + one_of(lower);
        return ended_by(Error(ErrorKind::out_of_memory, message, lower));
    } catch (const std::exception& e) {
        return ended_by(Error(ErrorKind::failure, json_reason(e.what())));
    }
}

ToolCommand::ToolCommand(std::string name, std::string description)
    : name_(std::move(name)), description_(std::move(description)) {}

void ToolCommand::group(const std::string& heading) {
    group_ = heading;
}
void ToolCommand::option(const std::string& name, const ConfigValue& value, const std::string& help) {
    entries_.push_back({name, help, group_, value, false});
}
void ToolCommand::positional(const std::string& name, std::string& value, const std::string& help) {
    entries_.push_back({name, help, group_, &value, true});
}

bool ToolCommand::parse(int argc, char** argv) {
    CLI::App app(description_, name_);
    declare_common(app);
    for (const Entry& entry : entries_) {
        CLI::Option* option =
            add_value(app, (entry.positional ? "" : "--") + entry.name, entry.value, entry.help)
                ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
        if (!entry.positional) option->group(entry.group);
    }
    if (!parse_or_refuse(app, argc, argv)) return false;
    if (!app.remaining().empty()) refuse_unknown(app, app.remaining());
    for (const Entry& entry : entries_)
        if (app.count(entry.positional ? entry.name : "--" + entry.name) > 0) given_.insert(entry.name);
    return true;
}

}  // namespace sieve
