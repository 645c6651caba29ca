// A file of configuration keys, for --config: TOML, or JSON where the name ends in .json, such as the
// config.json that a run leaves. Keys stand at the top level.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "framework/program/config.h"

namespace sieve {

// A key that a file may hold; several texts where a command line may give it several times.
struct FileKey {
    std::string name;
    std::variant<ConfigValue, std::vector<std::string>*> value;
    bool given = false;  // on the command line, which wins over the file
};

class ConfigFile {
  public:
    // Reads the file, once: it may be a pipe. Throws a bad_file error that names file, line and column for
    // what is no TOML, a section, or a key that appears twice.
    explicit ConfigFile(const std::string& path);
    ~ConfigFile();
    ConfigFile(const ConfigFile&) = delete;
    ConfigFile& operator=(const ConfigFile&) = delete;

    // Of keys that set the defaults of others: preset, init_from.
    std::optional<std::string> text_of(const std::string& key) const;
    // Whether it is the config.json of a run, which holds every key that there was when it was written.
    bool is_of_run() const;
    // Sets the keys that the file holds and the command line does not. A key that is not in `keys`, and a
    // value of another type, are bad_file errors with their place. "preset" is left aside, as is the
    // "attention" of a config.json: it says which of the two models the file was left beside.
    void set(const std::vector<FileKey>& keys) const;

  private:
    struct Entries;
    std::unique_ptr<const Entries> entries_;
};

}  // namespace sieve
