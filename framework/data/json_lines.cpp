#include "framework/data/json_lines.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "framework/core/error.h"
#include "framework/io/json_file.h"

namespace sieve {
namespace {

using nlohmann::json;

// Keeps the one text and builds nothing else, however deep the line nests.
class TextKey : public nlohmann::json_sax<json> {
  public:
    explicit TextKey(const std::string& key) : key_(key) {}

    std::optional<std::string> text;
    bool is_object = false, twice = false;
    std::string reason;  // why the line is no JSON
    size_t column = 0;

    bool null() override { return value(); }
    bool boolean(bool) override { return value(); }
    bool number_integer(int64_t) override { return value(); }
    bool number_unsigned(uint64_t) override { return value(); }
    bool number_float(double, const std::string&) override { return value(); }
    bool binary(json::binary_t&) override { return value(); }
    bool string(std::string& content) override {
        if (depth_ == 1 && wanted_) {
            twice = twice || text;
            text = std::move(content);
        }
        return value();
    }
    bool key(std::string& name) override {
        wanted_ = depth_ == 1 && name == key_;
        return true;
    }
    bool start_object(size_t) override {
        if (depth_ == 0) is_object = true;
        return open();
    }
    bool start_array(size_t) override { return open(); }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }
    bool parse_error(size_t position, const std::string&, const json::exception& e) override {
        column = position;
        reason = json_reason(e.what());
        return false;
    }

  private:
    bool value() {
        wanted_ = false;
        return true;
    }
    bool open() {
        ++depth_;
        return value();
    }
    bool close() {
        --depth_;
        return true;
    }

    const std::string& key_;
    int64_t depth_ = 0;
    bool wanted_ = false;
};

}  // namespace

std::string text_of_json_line(std::string_view line, const std::string& key, const std::string& place) {
    TextKey found(key);
    if (!json::sax_parse(line, &found))
        fail_bad_file(
            fmt::format("{}:{}: {}; want one JSON object a line", place, found.column, found.reason));
    if (!found.is_object) fail_bad_file(place + ": want one JSON object a line");
    if (!found.text) fail_bad_file(fmt::format("{}: has no text under the key \"{}\"", place, key));
    if (found.twice) fail_bad_file(fmt::format("{}: the key \"{}\" appears twice in one object", place, key));
    return std::move(*found.text);
}

}  // namespace sieve
