#include "framework/io/json_file.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
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

// Text of at most so many bytes, cut between characters.
std::string cut(const std::string& text) {
    constexpr size_t most = 60;
    if (text.size() <= most) return text;
    size_t end = most;
    while (end > 0 && (text[end] & 0xC0) == 0x80) --end;
    return text.substr(0, end) + "...";
}

constexpr size_t deepest = 64;

// What a text would become, found without making it.
struct Extent {
    uint64_t bytes = 0;                            // what its values take in memory, about
    uint64_t longest_string = 0, longest_gap = 0;  // a gap: between brackets, commas, colons and strings

    // A string passes through several buffers of the library, and through more in the message that refuses
    // it. Of a gap of line ends such a message makes "<U+000A><U+000A>...".
    uint64_t buffers() const { return 6 * longest_string + 48 * longest_gap; }
};

bool is_structural(char c) {
    return c == '"' || c == '{' || c == '}' || c == '[' || c == ']' || c == ',' || c == ':';
}

// Throws when the text is nested too deeply. Text that is no JSON is measured as if it were.
Extent measure(std::string_view text, const std::string& name) {
    constexpr uint64_t container = 48, element = 32, key = 64, string = 48;
    Extent extent;
    size_t depth = 0, gap = 0;  // the gap's beginning
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (!is_structural(c)) continue;
        extent.longest_gap = std::max<uint64_t>(extent.longest_gap, i - gap);
        if (c == '"') {
            const size_t start = ++i;
            while (i < text.size() && text[i] != '"') i += text[i] == '\\' ? 2 : 1;
            extent.longest_string = std::max<uint64_t>(extent.longest_string, i - start);
            extent.bytes += string + (i - start);
        } else if (c == '{' || c == '[') {
            extent.bytes += container + element;
            if (++depth > deepest)
                fail_bad_file(position(name, text, i + 1) + ": more than " + std::to_string(deepest) +
                              " levels of brackets");
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
        } else if (c == ',') {
            extent.bytes += element;
        } else {
            extent.bytes += key;
        }
        gap = i + 1;
    }
    extent.longest_gap = std::max<uint64_t>(extent.longest_gap, text.size() - std::min(gap, text.size()));
    return extent;
}

// Makes a document from the events of nlohmann's parser, which itself does not call itself.
class DocumentBuilder final : public nlohmann::json_sax<ordered_json> {
  public:
    DocumentBuilder(std::string_view text, const std::string& name) : text_(text), name_(name) {}

    ordered_json document;

    bool null() override { return add(nullptr); }
    bool boolean(bool value) override { return add(value); }
    bool number_integer(number_integer_t value) override { return add(value); }
    bool number_unsigned(number_unsigned_t value) override { return add(value); }
    bool number_float(number_float_t value, const string_t&) override { return add(value); }
    bool string(string_t& value) override { return add(std::move(value)); }
    bool binary(binary_t&) override { return false; }  // JSON has none

    bool start_object(size_t) override { return open(ordered_json::object()); }
    bool key(string_t& value) override {
        key_ = std::move(value);
        return true;
    }
    bool end_object() override {
        refuse_equal_keys(*open_.back());
        return end_array();
    }
    bool start_array(size_t) override { return open(ordered_json::array()); }
    bool end_array() override {
        open_.pop_back();
        return true;
    }

    bool parse_error(size_t at, const std::string&, const nlohmann::detail::exception& error) override {
        constexpr size_t longest = 1000;
        const std::string_view what = error.what();  // which shows all of a long token
        fail_bad_file(position(name_, text_, at) + ": " + json_reason(std::string(what.substr(0, longest))));
    }

  private:
    bool add(ordered_json value) {
        place(std::move(value));
        return true;
    }
    bool open(ordered_json container) {
        open_.push_back(place(std::move(container)));
        return true;
    }

    ordered_json* place(ordered_json value) {
        if (open_.empty()) {
            document = std::move(value);
            return &document;
        }
        if (open_.back()->is_array()) {
            auto& elements = open_.back()->get_ref<ordered_json::array_t&>();
            elements.push_back(std::move(value));
            return &elements.back();
        }
        // Straight to the end: operator[] would search.
        auto& entries = open_.back()->get_ref<ordered_json::object_t&>();
        entries.emplace_back(std::move(key_), std::move(value));
        return &entries.back().second;
    }

    void refuse_equal_keys(const ordered_json& object) const {
        std::vector<std::string_view> keys;
        keys.reserve(object.size());
        for (const auto& [key, value] : object.get_ref<const ordered_json::object_t&>())
            keys.emplace_back(key);
        std::sort(keys.begin(), keys.end());
        const auto equal = std::adjacent_find(keys.begin(), keys.end());
        if (equal != keys.end())
            fail_bad_file(name_ + ": the key \"" + shortened(*equal) + "\" appears twice in one object");
    }

    std::string_view text_;
    const std::string& name_;
    std::vector<ordered_json*> open_;
    std::string key_;
};

}  // namespace

void write_json_atomic(const std::string& path, const ordered_json& document) {
    refuse_non_finite(document, "", path);
    std::string text;
    try {
        text = document.dump(2) + "\n";
    } catch (const ordered_json::exception& e) {  // a string that is not UTF-8
        fail_bad_file(path + ": cannot write: " + json_reason(e.what()));
    }
    write_file_atomic(path, text);
}

ordered_json parse_json(std::string_view text, const std::string& name, MemoryBudget& budget) {
    const Extent extent = measure(text, name);
    budget.take(extent.bytes + extent.buffers());
    DocumentBuilder builder(text, name);
    ordered_json::sax_parse(text.begin(), text.end(), &builder);
    budget.give_back(extent.buffers());
    return std::move(builder.document);
}

ordered_json parse_json(std::string_view text, const std::string& name) {
    MemoryBudget budget(text.size(), name);
    return parse_json(text, name, budget);
}

ordered_json read_json(const std::string& path) {
    return parse_json(read_file(path), path);
}

ordered_json json_number(double value) {
    if (std::isfinite(value)) return value;
    return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

std::optional<double> number_in(const ordered_json& value) {
    if (value.is_number()) return value.get<double>();
    if (value.is_null() || value == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (value == "inf") return std::numeric_limits<double>::infinity();
    if (value == "-inf") return -std::numeric_limits<double>::infinity();
    return std::nullopt;
}

std::optional<int64_t> whole_number_in(const ordered_json& value) {
    if (value.is_number_unsigned() && value.get<uint64_t>() > std::numeric_limits<int64_t>::max())
        return std::nullopt;
    if (value.is_number_integer()) return value.get<int64_t>();
    if (!value.is_number_float()) return std::nullopt;
    constexpr double most = int64_t{1} << 53;  // beyond it a double does not tell neighbours apart
    const double number = value.get<double>();
    if (!(std::abs(number) <= most) || number != std::floor(number)) return std::nullopt;
    return static_cast<int64_t>(number);
}

std::string shown(const ordered_json& value) {
    if (value.is_object()) return value.empty() ? "{}" : "an object";
    const auto nested = [](const ordered_json& item) { return item.is_structured(); };
    if (value.is_array() && (value.size() > 16 || std::any_of(value.begin(), value.end(), nested)))
        return "a list";
    return cut(value.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
}

std::string json_reason(const std::string& message) {
    const std::string mark = "[json.exception.";
    if (!message.starts_with(mark)) return message;
    std::string reason = message.substr(std::min(message.find("] ") + 2, message.size()));
    // The token that was read: as long as the file, for all one knows, and in any bytes.
    if (const size_t read = reason.find("; last read: '"); read != std::string::npos) {
        const size_t after = reason.find("'; expected ", read);
        reason.erase(read, after == std::string::npos ? after : after + 1 - read);
    }
    const size_t column = reason.find(", column ");
    if (!reason.starts_with("parse error") || column == std::string::npos) return reason;
    const size_t start = reason.find(": ", column);
    return start == std::string::npos ? reason : reason.substr(start + 2);
}

}  // namespace sieve
