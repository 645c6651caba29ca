// A configuration as a run leaves it (config.json).
#include "framework/program/config.h"

#include <nlohmann/json.hpp>

#include "framework/io/json_file.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::vector<std::string> samples() {
    ExperimentConfig latent;
    latent.model.attention_type = AttentionType::mla;
    ExperimentConfig grouped;
    grouped.model.attention_type = AttentionType::gqa;
    grouped.model.n_kv_heads = 2;
    return {config_to_json(ExperimentConfig()).dump(2), config_to_json(latent).dump(),
            config_to_json(grouped).dump(2), R"({"sparse_top_k": [64, 64, 32, 32, 16, 16], "d_model": 256})"};
}

std::vector<std::string> attacks() {
    constexpr size_t many = 2'000'000;
    const std::string x(many, 'x');
    return {
        "{\"" + x + "\": 1}",
        "{\"d_model\": \"" + x + "\"}",
        "{\"selector\": \"" + x + "\"}",
        "{\"d_model\": [" + repeated("[0],", many / 4) + "0]}",
        "{\"sparse_top_k\": [" + repeated("8,", many / 4) + "8]}",
        R"({"attention_type": "gqa", "d_model": 4611686018427387904, "n_heads": 2305843009213693952, "n_kv_heads": 3})",
        R"({"n_layers": 9223372036854775807, "num_experts": 9223372036854775807, "d_ff": 9223372036854775807})"};
}

const RegisteredFormat registered({"config", samples,
                                   [](const std::string& input) {
                                       validate(
                                           config_from_json(parse_json(input, "config.json"), "config.json"));
                                   },
                                   attacks});

}  // namespace
}  // namespace sieve::fuzz
