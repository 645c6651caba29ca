// Enums whose values have names: one table serves the command line, every file and every message.
//
//   enum class Colour { red, green };
//   template <>
//   inline constexpr auto enum_names<Colour> =
//       std::to_array<NamedValue<Colour>>({{Colour::red, "red"}, {Colour::green, "green"}});
//
//   name_of(Colour::red) is "red"; from_name<Colour>("colour", "blue") throws "colour: 'blue', want red or green"
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace sieve {

template <class Enum>
struct NamedValue {
    Enum value;
    const char* name;
};

template <class Enum>
inline constexpr auto enum_names = nullptr;  // no table: the enum is not for people

template <class Enum>
concept NamedEnum = std::is_enum_v<Enum> && requires {
    enum_names<Enum>.size();
};

template <NamedEnum Enum>
constexpr const char* name_of(Enum value) {
    for (const NamedValue<Enum>& entry : enum_names<Enum>)
        if (entry.value == value) return entry.name;
    return "?";
}

// In the order of the table.
template <NamedEnum Enum>
std::vector<std::string> names_of() {
    std::vector<std::string> names;
    names.reserve(enum_names<Enum>.size());
    for (const NamedValue<Enum>& entry : enum_names<Enum>) names.emplace_back(entry.name);
    return names;
}

template <NamedEnum Enum>
std::optional<Enum> value_named(std::string_view name) {
    for (const NamedValue<Enum>& entry : enum_names<Enum>)
        if (name == entry.name) return entry.value;
    return std::nullopt;
}

// "a,b" -> "a", "b"; a comma at the end leaves an empty item.
std::vector<std::string> split_names(const std::string& list);

// The values of a list such as "classic,sparse", in that order; none when a name is not one, or empty.
template <NamedEnum Enum>
std::optional<std::vector<Enum>> values_named(const std::string& list) {
    std::vector<Enum> values;
    for (const std::string& name : split_names(list)) {
        const std::optional<Enum> value = value_named<Enum>(name);
        if (!value) return std::nullopt;
        values.push_back(*value);
    }
    return values;
}

// The known name nearest to a mistyped one; empty when none is near.
std::string nearest_name(const std::string& mistyped, const std::vector<std::string>& known);
// For an error: "fp32, bf16 or int8", and ", did you mean bf16?" when one of them is very near to `text`.
std::string wanted_name(const std::string& text, const std::vector<std::string>& known);
// The same for a list of names: "a list of classic, sparse and compare".
std::string wanted_names(const std::string& list, const std::vector<std::string>& known);
[[noreturn]] void fail_usage_of(const std::string& what, const std::string& text, const std::string& wanted);

// Throws a usage error that begins with `what` and lists the names.
template <NamedEnum Enum>
Enum from_name(const std::string& what, const std::string& name) {
    if (const std::optional<Enum> value = value_named<Enum>(name)) return *value;
    fail_usage_of(what, name, wanted_name(name, names_of<Enum>()));
}

// "classic,sparse", in that order. Throws like from_name, also for a list that is empty.
template <NamedEnum Enum>
std::vector<Enum> from_names(const std::string& what, const std::string& list) {
    if (const std::optional<std::vector<Enum>> values = values_named<Enum>(list)) return *values;
    fail_usage_of(what, list, wanted_names(list, names_of<Enum>()));
}

template <NamedEnum Enum>
std::string list_of(const std::vector<Enum>& values) {
    std::string list;
    for (const Enum value : values) list += (list.empty() ? "" : ",") + std::string(name_of(value));
    return list;
}

}  // namespace sieve
