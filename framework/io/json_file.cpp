#include "framework/io/json_file.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"

namespace sieve {
namespace {

using nlohmann::ordered_json;

void refuse_non_finite(const ordered_json& value, const std::string& key_path, const std::string& file) {
    if (value.is_number_float() && !std::isfinite(value.get<double>())) {
        const double x = value.get<double>();
        fail_bad_file(file + ": " + (key_path.empty() ? "the document" : key_path) + " is " +
                      (std::isnan(x) ? "nan"
                       : x > 0       ? "inf"
                                     : "-inf") +
                      ", which JSON cannot hold");
    }
    if (value.is_object())
        for (const auto& [key, child] : value.items())
            refuse_non_finite(child, key_path.empty() ? key : key_path + "." + key, file);
    if (value.is_array())
        for (size_t i = 0; i < value.size(); ++i)
            refuse_non_finite(value[i], key_path + "[" + std::to_string(i) + "]", file);
}

// "name:line:column" of byte `at` (1-based, as nlohmann counts) of the text.
std::string position(const std::string& name, std::string_view text, size_t at) {
    const std::string_view before = text.substr(0, at > 0 ? at - 1 : 0);
    size_t line = 1, line_start = 0;
    for (size_t i = 0; i < before.size(); ++i)
        if (before[i] == '\n') {
            ++line;
            line_start = i + 1;
        }
    return name + ":" + std::to_string(line) + ":" + std::to_string(before.size() - line_start + 1);
}

// The reason inside nlohmann's message, without its library name, error number and position.
std::string reason_of(const std::string& message) {
    const size_t column = message.find("column ");
    const size_t start = message.find(": ", column == std::string::npos ? 0 : column);
    return start == std::string::npos ? message : message.substr(start + 2);
}

}  // namespace

void write_json_atomic(const std::string& path, const ordered_json& document) {
    refuse_non_finite(document, "", path);
    std::string text;
    try {
        text = document.dump(2) + "\n";
    } catch (const ordered_json::exception& e) {  // a string that is not UTF-8
        fail_bad_file(path + ": cannot write: " + e.what());
    }
    write_file_atomic(path, text);
}

ordered_json parse_json(std::string_view text, const std::string& name) {
    std::vector<std::set<std::string>> open_objects;
    const auto refuse_equal_keys = [&](int, ordered_json::parse_event_t event, ordered_json& value) {
        using Event = ordered_json::parse_event_t;
        if (event == Event::object_start) open_objects.emplace_back();
        if (event == Event::object_end) open_objects.pop_back();
        if (event == Event::key && !open_objects.back().insert(value.get<std::string>()).second)
            fail_bad_file(name + ": the key \"" + value.get<std::string>() +
                          "\" appears twice in one object");
        return true;
    };
    try {
        return ordered_json::parse(text.begin(), text.end(), refuse_equal_keys);
    } catch (const ordered_json::parse_error& e) {
        fail_bad_file(position(name, text, e.byte) + ": " + reason_of(e.what()));
    } catch (const ordered_json::exception& e) {
        fail_bad_file(name + ": " + e.what());
    }
}

ordered_json read_json(const std::string& path) {
    return parse_json(read_file(path), path);
}

}  // namespace sieve
