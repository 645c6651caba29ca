// JSON of any kind. What is read must be the same when it is written and read again.
#include <nlohmann/json.hpp>

#include "framework/io/json_file.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::vector<std::string> samples() {
    return {
        R"({"a": [1, -2.5e3, true, null, "x\u00e9\n\"y"], "b": {"c": {}, "d": []}, "e": 18446744073709551615})",
        "[[[[[[[[]]]]]]]]", "\"\"", "-0.0"};
}

void read(const std::string& input) {
    const nlohmann::ordered_json document = parse_json(input, "x.json");
    shown(document);
    if (input.size() < 1 << 16)  // what reading alone takes is measured of larger ones
        expect(parse_json(document.dump(), "again") == document,
               "JSON changed when it was written and read again");
}

std::vector<std::string> attacks() {
    constexpr size_t many = 2'000'000;
    std::string keys = "{";
    for (size_t i = 0; i < many / 10; ++i) keys += "\"" + std::to_string(i) + "\":0,";
    return {repeated("[", many),
            repeated("{\"a\":", many),
            repeated("[", many) + repeated("]", many),
            "[" + repeated("[],", many) + "0]",
            "[" + repeated("{},", many) + "0]",
            "[" + repeated("0,", many) + "0]",
            "[" + repeated("\"\",", many) + "0]",
            "[" + repeated("{\"a\":[{\"b\":[]}]},", many / 8) + "0]",
            keys + "\"a\":0}",
            keys + "\"77\":0}",
            "\"" + std::string(32'000'000, 'x') + "\"",
            "\"" + repeated("\\u0000", many) + "\"",
            "{\"" + std::string(many, 'x') + "\":1,\"" + std::string(many, 'x') + "\":2}",
            "[tr" + std::string(many, 'u'),
            repeated("1", many),
            "[" + repeated("1e-400,", many / 4) + "0]",
            "\"" + std::string(7'500'000, 'x') + "\n",
            "\"" + std::string(7'500'000, 'x'),
            "\"" + std::string(7'500'000, 'x') + "\"x",
            "[" + std::string(900'000, '\n') + "x",
            std::string(many, ' '),
            std::string(many, '\n') + "x"};
}

const RegisteredFormat registered({"json", samples, read, attacks});

}  // namespace
}  // namespace sieve::fuzz
