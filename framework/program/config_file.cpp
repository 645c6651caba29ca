#include "framework/program/config_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#define TOML_ENABLE_FORMATTERS 0  // this file only reads
// toml++ 3.3.0 asserts what some malformed files break, and the program would end there. Its parser can be left
// by an exception; in the library's functions that cannot, an assertion ends the program as before.
namespace {
struct BrokenToml {};
}  // namespace
#define TOML_ASSERT(condition) ((condition) ? void() : throw BrokenToml())
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wterminate"  // in this file, which throws in no such function itself
#endif
#include <toml++/toml.h>

#include "framework/core/error.h"
#include "framework/io/block_reader.h"
#include "framework/io/json_file.h"

namespace sieve {
namespace {

using Json = nlohmann::ordered_json;

// A key as it stands in the file.
struct Entry {
    std::string name;
    Json value;
    std::string place;  // "my.toml:3:11"
};

// The "attention" of a run's config.json says which of the two models it was left beside.
bool says_variant(const Entry& entry) {
    return entry.name == "attention" && entry.place.ends_with(".json");
}

// ---- before the library sees it

// A person writes a few kilobytes, one level deep. The library makes a tree of whatever it is given, in many
// times the bytes, and takes it apart by recursion.
constexpr size_t largest_file = 256 << 10;
constexpr int deepest = 16;

// Goes over a TOML text without building anything: counts how deep it nests, and keeps from the library what it
// was not written for.
class TextGuard {
  public:
    TextGuard(std::string_view text, const std::string& path) : text_(text), path_(path) {}

    void check() {
        while (at_ < text_.size()) step();
    }

  private:
    void step() {
        const char c = text_[at_];
        if (c == '#') return skip_to("\n");
        if (c == '"' || c == '\'') return skip_text(c);
        // TOML has none there, and toml++ 3.3.0 takes every letter above 0xA0 for one it cannot meet.
        if (static_cast<unsigned char>(c) > 0x7F)
            fail_bad_file(fmt::format("{}:{}: a letter that is not ASCII outside of quotes", path_, line_));
        if (c == '\n') ++line_;
        if (c == '[' || c == '{') ++open_;
        if (c == ']' || c == '}') --open_;
        // A dotted key nests as well: a.b.c = 1.
        if (c == '.') ++dots_;
        if (std::string_view("=,[{\n").find(c) != std::string_view::npos) dots_ = 0;
        if (open_ > deepest || dots_ > deepest)
            fail_bad_file(fmt::format("{}:{}: nested more than {} deep", path_, line_, deepest));
        ++at_;
    }

    void skip_to(std::string_view end) { at_ = std::min(text_.find(end, at_), text_.size()); }

    void skip_text(char quote) {
        const std::string triple(3, quote);
        const bool long_text = text_.substr(at_).starts_with(triple);
        at_ += long_text ? 3 : 1;
        while (at_ < text_.size()) {
            const char c = text_[at_];
            if (c == '\\' && quote == '"') {
                check_escape();
                at_ += 2;
            } else if (long_text && text_.substr(at_).starts_with(triple)) {
                at_ += 3;
                return;
            } else if (!long_text && (c == quote || c == '\n')) {
                at_ += c == quote ? 1 : 0;
                return;
            } else {
                line_ += c == '\n' ? 1 : 0;
                ++at_;
            }
        }
    }

    // The same letters after a backslash, also one that joins two lines: no key of ours is as long as that.
    void check_escape() const {
        const auto next = static_cast<unsigned char>(at_ + 1 < text_.size() ? text_[at_ + 1] : '\n');
        if (next <= ' ' || next > 0x7E)
            fail_bad_file(fmt::format("{}:{}: a backslash with nothing behind it", path_, line_));
    }

    std::string_view text_;
    const std::string& path_;
    size_t at_ = 0;
    int64_t line_ = 1;
    int open_ = 0, dots_ = 0;
};

// ---- TOML

std::string place_of(const std::string& path, const toml::source_position& at) {
    return fmt::format("{}:{}:{}", path, at.line, at.column);
}

// "Error while parsing key-value pair: expected '='" without what all of them begin with.
std::string reason_of(const toml::parse_error& error) {
    std::string reason(error.description());
    const std::string before = "Error while parsing ";
    if (reason.starts_with(before)) reason.erase(0, before.size());
    const size_t key = reason.find('\'');
    if (reason.find("cannot redefine existing") != std::string::npos && key != std::string::npos)
        return "the key " + reason.substr(key + 1, reason.rfind('\'') - key - 1) + " appears twice";
    return reason;
}

Json json_of_toml(const toml::node& node, const Entry& entry) {
    if (const auto* text = node.as_string()) return text->get();
    if (const auto* number = node.as_integer()) return number->get();
    if (const auto* number = node.as_floating_point()) return json_number(number->get());
    if (const auto* truth = node.as_boolean()) return truth->get();
    if (const auto* list = node.as_array()) {
        Json json = Json::array();
        for (const toml::node& item : *list) json.push_back(json_of_toml(item, entry));
        return json;
    }
    fail_bad_file(fmt::format("{}: {} is {}, want a number, a text, true or false, or a list of them",
                              entry.place, entry.name,
                              node.is_table() ? "a table" : "a date or a time (quote a text)"));
}

// Line `number`, counted from 1, without the spaces around it.
std::string_view line_of(std::string_view text, size_t number) {
    for (; number > 1 && text.find('\n') != std::string_view::npos; --number)
        text.remove_prefix(text.find('\n') + 1);
    text = text.substr(0, text.find('\n'));
    const size_t begin = text.find_first_not_of(" \t"), end = text.find_last_not_of(" \t\r");
    return begin == std::string_view::npos ? std::string_view() : text.substr(begin, end - begin + 1);
}

bool is_section(const toml::node& node) {
    const toml::table* table = node.as_table();
    return (table && !table->is_inline()) || node.is_array_of_tables();
}

[[noreturn]] void refuse_section(std::string_view text, const std::string& path, const std::string& name,
                                 size_t line) {
    const std::string_view written = line_of(text, line);
    if (written.starts_with('['))
        fail_bad_file(fmt::format("{}:{}: section {}: keys stand at the top level here; remove the line",
                                  path, line, written.substr(0, written.find_last_of(']') + 1)));
    fail_bad_file(
        fmt::format("{}:{}: {}: keys stand at the top level here, without a dot", path, line, name));
}

std::vector<Entry> entries_of_toml(const std::string& text, const std::string& path) {
    TextGuard(text, path).check();
    toml::table root;
    try {
        root = toml::parse(text, path);
    } catch (const toml::parse_error& error) {
        fail_bad_file(place_of(path, error.source().begin) + ": " + reason_of(error));
    } catch (const BrokenToml&) {
        fail_bad_file(path + ": not TOML");
    }
    // In the order of the file, so that the first mistake is reported first.
    std::vector<std::pair<std::string, const toml::node*>> found;
    for (const auto& [key, node] : root) found.emplace_back(key.str(), &node);
    const auto line = [](const auto& item) { return item.second->source().begin.line; };
    std::stable_sort(found.begin(), found.end(),
                     [&](const auto& a, const auto& b) { return line(a) < line(b); });
    std::vector<Entry> entries;
    for (const auto& item : found) {
        if (is_section(*item.second)) refuse_section(text, path, item.first, line(item));
        entries.push_back({item.first, Json(), place_of(path, item.second->source().begin)});
        entries.back().value = json_of_toml(*item.second, entries.back());
    }
    return entries;
}

std::vector<Entry> entries_of_json(const std::string& text, const std::string& path) {
    const Json json = parse_json(text, path);
    if (!json.is_object()) fail_bad_file(path + ": want one JSON object of configuration keys");
    std::vector<Entry> entries;
    for (const auto& [name, value] : json.items()) entries.push_back({name, value, path});
    return entries;
}

void set_texts(const Entry& entry, std::vector<std::string>* to) {
    to->clear();
    for (const Json& item : entry.value.is_array() ? entry.value : Json::array({entry.value})) {
        to->emplace_back();
        set_from_json(&to->back(), entry.place, entry.name, item);
    }
}

[[noreturn]] void refuse_unknown(const Entry& entry, const std::vector<FileKey>& keys) {
    std::vector<std::string> known{"preset"};
    for (const FileKey& key : keys) known.push_back(key.name);
    const std::string nearest = nearest_name(entry.name, known);
    fail_bad_file(fmt::format("{}: unknown key '{}'{}", entry.place, shortened(entry.name),
                              nearest.empty() ? "" : fmt::format(", did you mean {}?", nearest)));
}

}  // namespace

struct ConfigFile::Entries {
    std::vector<Entry> all;
};

ConfigFile::ConfigFile(const std::string& path) {
    const std::string text = read_small_file(path, largest_file);
    const bool json = std::filesystem::path(path).extension() == ".json";
    entries_ =
        std::make_unique<Entries>(Entries{json ? entries_of_json(text, path) : entries_of_toml(text, path)});
}

ConfigFile::~ConfigFile() = default;

std::optional<std::string> ConfigFile::text_of(const std::string& key) const {
    for (const Entry& entry : entries_->all) {
        if (entry.name != key) continue;
        std::string text;
        set_from_json(&text, entry.place, entry.name, entry.value);
        return text;
    }
    return std::nullopt;
}

bool ConfigFile::is_of_run() const {
    return std::any_of(entries_->all.begin(), entries_->all.end(),
                       [&](const Entry& entry) { return says_variant(entry); });
}

void ConfigFile::set(const std::vector<FileKey>& keys) const {
    for (const Entry& entry : entries_->all) {
        if (entry.name == "preset" || says_variant(entry)) continue;
        const auto key =
            std::find_if(keys.begin(), keys.end(), [&](const FileKey& k) { return k.name == entry.name; });
        if (key == keys.end()) refuse_unknown(entry, keys);
        if (key->given) continue;
        if (const auto* value = std::get_if<ConfigValue>(&key->value))
            set_from_json(*value, entry.place, entry.name, entry.value);
        else
            set_texts(entry, std::get<std::vector<std::string>*>(key->value));
    }
}

}  // namespace sieve
