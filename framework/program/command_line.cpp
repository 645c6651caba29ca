#include "framework/program/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <new>

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
    fail_usage(fmt::format("unknown argument {}{} (--help lists all)", given,
                           nearest.empty() ? "" : fmt::format(", did you mean --{}?", nearest)));
}

void parse_or_refuse(CLI::App& app, int argc, char** argv) {
    try {
        app.parse(argc, argv);
    } catch (const CLI::FileError& e) {
        fail_bad_file(e.what());
    } catch (const CLI::ConfigError& e) {
        fail_usage(fmt::format("config file: {}", e.what()));
    } catch (const CLI::ParseError& e) {
        fail_usage(e.what());
    }
}

// CLI11 reports unknown keys of a config file late and without the key; so the files are checked here.
void check_config_keys(const CLI::App& app, const std::string& path) {
    const std::vector<std::string> known = flag_names(app);
    for (const CLI::ConfigItem& item : CLI::ConfigTOML().from_file(path)) {
        if (item.name == "++" || item.name == "--") continue;  // section markers
        if (std::find(known.begin(), known.end(), item.name) != known.end()) continue;
        const std::string nearest = nearest_name(item.name, known);
        fail_usage(fmt::format("{}: unknown key '{}'{}", path, item.name,
                               nearest.empty() ? "" : fmt::format(", did you mean {}?", nearest)));
    }
}

void add_option(CLI::App& app, const ProgramOption& option) {
    const std::string flag = "--" + option.name;
    const auto add = [&](auto* value) -> CLI::Option* {
        using T = std::decay_t<decltype(*value)>;
        if constexpr (std::is_same_v<T, bool>) return app.add_flag(flag, *value, option.help);
        CLI::Option* added = app.add_option(flag, *value, option.help);
        if constexpr (std::is_same_v<T, std::vector<std::string>>)
            return added->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
        return added->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)->capture_default_str();
    };
    std::visit(add, option.value)->group("Start here");
}

// CLI11 hands on the elements of a TOML list one by one, as if the flag had been given as often, of which the
// last counts. Joined they are what stands on a command line.
class ListsAsText : public CLI::ConfigTOML {
  public:
    std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
        std::vector<CLI::ConfigItem> all = CLI::ConfigTOML::from_config(input);
        for (CLI::ConfigItem& item : all)
            if (item.inputs.size() > 1) item.inputs = {CLI::detail::join(item.inputs, ",")};
        return all;
    }
};

CLI::Option* add_typed(CLI::App& app, const std::string& name, bool* value, const std::string& help) {
    return app.add_flag(name, *value, help);
}

template <class T>
CLI::Option* add_typed(CLI::App& app, const std::string& name, T* value, const std::string& help) {
    return app.add_option(name, *value, help)->capture_default_str();
}

// A value that this program reads from its text, whatever CLI11 knows of its type.
CLI::Option* add_text(CLI::App& app, const std::string& name, const ConfigValue& value,
                      const std::string& help, const char* type) {
    const std::string key = name.substr(name.find_first_not_of('-'));
    const auto read = [key, value](const std::string& text) { set_from_text(value, key, text); };
    return app.add_option_function<std::string>(name, read, help)
        ->type_name(type)
        ->default_str(text_of(value));
}

CLI::Option* add_typed(CLI::App& app, const std::string& name, PerLayer* value, const std::string& help) {
    return add_text(app, name, value, help, "INT,...");
}

CLI::Option* add_typed(CLI::App& app, const std::string& name, const NamedChoice& value,
                       const std::string& help) {
    return add_text(app, name, value, help, "TEXT");
}

// `name`: "--name", or bare for a positional one.
CLI::Option* add_value(CLI::App& app, const std::string& name, const ConfigValue& value,
                       const std::string& help) {
    return std::visit([&](const auto& typed) { return add_typed(app, name, typed, help); }, value);
}

// As it stands in a TOML file.
struct TomlText {
    std::string operator()(const std::string* value) const { return fmt::format("\"{}\"", *value); }
    std::string operator()(const NamedChoice& value) const { return fmt::format("\"{}\"", value.text()); }
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
    CLI::App app;
    std::string preset = fallback, config_file;
    app.set_help_flag();
    app.allow_extras();
    app.allow_config_extras(true);
    app.add_option("--preset", preset);
    app.set_config("--config", "", "", false);
    parse_or_refuse(app, argc, argv);
    return preset;
}

ExperimentCommand parse_experiment(int argc, char** argv, const std::string& description,
                                   const std::vector<ProgramOption>& options) {
    ExperimentCommand command;
    ExperimentConfig& config = command.config;
    apply_preset(config, find_preset(argc, argv, config.preset));

    CLI::App app(description);
    app.footer(exit_codes_help);
    app.set_help_flag("--help,-h", "print this and exit")->group("Running");
    app.allow_extras();
    app.allow_config_extras(true);
    app.config_formatter(std::make_shared<ListsAsText>());
    app.add_option("--preset", config.preset, "small, medium or large: sets the defaults of the other flags")
        ->group("Start here")
        ->capture_default_str();
    CLI::Option* file = app.set_config("--config", "", "a TOML file of these keys; flags win over it");
    file->group("Start here");
    app.add_flag("--resume", command.resume,
                 "go on where an interrupted run stopped; finished stages are kept")
        ->group("Start here");
    app.add_flag("--print_config", command.print_config, "print the configuration as TOML and exit")
        ->group("Start here");
    for (const ProgramOption& option : options) add_option(app, option);
    for (const ConfigKey& key : config_keys(config))
        add_value(app, std::string("--") + key.name, key.value, key.help)
            ->group(key.group)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        std::cout << app.help();
        command.help_shown = true;
        return command;
    } catch (const CLI::FileError& e) {
        fail_bad_file(e.what());
    } catch (const CLI::ParseError& e) {
        fail_usage(e.what());
    }
    if (file->count()) check_config_keys(app, file->as<std::string>());
    if (!app.remaining().empty()) refuse_unknown(app, app.remaining());
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
    static const SizeFlags flags{
        {SizeKind::batch, "--batch_size"},      {SizeKind::length, "--max_seq_len"},
        {SizeKind::width, "--d_model"},         {SizeKind::layers, "--n_layers"},
        {SizeKind::experts, "--num_experts"},   {SizeKind::expert_width, "--d_ff"},
        {SizeKind::vocabulary, "--vocab_size"}, {SizeKind::selected_keys, "--sparse_top_k"}};
    return flags;
}

std::string message_of(const Error& error, const SizeFlags& flags) {
    std::vector<std::string> names;
    for (const SizeKind size : error.lower())
        if (flags.contains(size)) names.push_back(flags.at(size));
    return names.empty() ? error.what() : fmt::format("{} ({})", error.what(), one_of(names));
}

int run_program(const std::string& name, const SizeFlags& flags, const std::function<int()>& body) {
    const auto ended_by = [&](const Error& error) {
        std::cerr << name << ": " << message_of(error, flags) << std::endl;
        return static_cast<int>(error.kind());
    };
    try {
        return body();
    } catch (const Error& e) {
        return ended_by(e);
    } catch (const std::bad_alloc&) {
        const std::vector<SizeKind> lower{SizeKind::batch, SizeKind::length, SizeKind::width};
        return ended_by(Error(ErrorKind::out_of_memory, "out of memory; lower " + one_of(lower), lower));
    } catch (const std::exception& e) {
        std::cerr << name << ": " << e.what() << std::endl;
        return static_cast<int>(ErrorKind::failure);
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
    app.footer(exit_codes_help);
    app.set_help_flag("--help,-h", "print this and exit");
    app.allow_extras();
    for (const Entry& entry : entries_) {
        CLI::Option* option =
            add_value(app, (entry.positional ? "" : "--") + entry.name, entry.value, entry.help);
        if (!entry.positional) option->group(entry.group);
    }
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        std::cout << app.help();
        return false;
    } catch (const CLI::ParseError& e) {
        fail_usage(e.what());
    }
    if (!app.remaining().empty()) refuse_unknown(app, app.remaining());
    for (const Entry& entry : entries_)
        if (app.count(entry.positional ? entry.name : "--" + entry.name) > 0) given_.insert(entry.name);
    return true;
}

}  // namespace sieve
