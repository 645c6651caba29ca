#include "framework/program/config_file.h"

#include <bit>
#include <limits>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/program/command_line.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

std::vector<FileKey> keys_of(ExperimentConfig& config) {
    std::vector<FileKey> keys;
    for (const ConfigKey& key : config_keys(config)) keys.push_back({key.name, key.value});
    return keys;
}

ExperimentConfig read(const std::string& path) {
    ExperimentConfig config;
    ConfigFile(path).set(keys_of(config));
    return config;
}

const std::vector<double> odd_numbers = {0.0,
                                         -0.0,
                                         5e-324,
                                         1e308,
                                         -1e-300,
                                         1.0 / 3,
                                         3,
                                         1e15,
                                         1e22,
                                         123456789012345680.0,
                                         std::numeric_limits<double>::infinity(),
                                         -std::numeric_limits<double>::infinity()};
const std::vector<int64_t> odd_whole_numbers = {0, -1, 1, INT64_MAX, INT64_MIN, (int64_t{1} << 53) + 1};
const std::vector<std::string> odd_texts = {"",
                                            "a b",
                                            "quo\"te",
                                            "'single'",
                                            "back\\slash\\",
                                            "line\nend\r",
                                            "tab\t",
                                            "k\u00e4se \u2603 \U0001F600",
                                            "# no comment",
                                            "[section]",
                                            "a = 1",
                                            "\x01\x7F",
                                            "\"\"\"",
                                            "inf",
                                            "true",
                                            "3"};

// Gives a key its `i`-th odd value.
struct SetOdd {
    size_t i;
    void operator()(int64_t* value) const { *value = odd_whole_numbers[i % odd_whole_numbers.size()]; }
    void operator()(double* value) const { *value = odd_numbers[i % odd_numbers.size()]; }
    void operator()(std::string* value) const { *value = odd_texts[i % odd_texts.size()]; }
    void operator()(bool* value) const { *value = i % 2 == 0; }
    void operator()(PerLayer* value) const {
        *value =
            i % 2 ? PerLayer(odd_whole_numbers[i % odd_whole_numbers.size()]) : PerLayer(odd_whole_numbers);
    }
    void operator()(const NamedChoice&) const {}
};

// The bits of doubles, too, which texts and JSON might lose.
void check_same(ExperimentConfig got, ExperimentConfig want, bool saved_only) {
    const std::vector<ConfigKey> a = config_keys(got), b = config_keys(want);
    for (size_t i = 0; i < a.size(); ++i) {
        if (saved_only && !b[i].saved()) continue;
        INFO(std::string(b[i].name));
        CHECK(text_of(a[i].value) == text_of(b[i].value));
        if (const auto* const* x = std::get_if<double*>(&a[i].value))
            CHECK(std::bit_cast<uint64_t>(**x) == std::bit_cast<uint64_t>(*std::get<double*>(b[i].value)));
    }
}

}  // namespace

TEST_CASE("config file: what --print_config and config.json hold is read back for every key and odd value") {
    const TemporaryFolder folder;
    for (size_t i = 0; i < odd_texts.size(); ++i) {
        ExperimentConfig config;
        size_t k = 0;
        for (const ConfigKey& key : config_keys(config)) std::visit(SetOdd{i + k++}, key.value);
        config.stages = {ExperimentStage::compare, ExperimentStage::classic};
        config.model.attention_type = i % 2 ? AttentionType::mla : AttentionType::gqa;
        config.optimizer = OptimizerKind::adamw, config.protocol = Protocol::overlap;
        write_file_atomic(folder / "c.toml", config_to_toml(config));
        check_same(read(folder / "c.toml"), config, false);
        write_json_atomic(folder / "config.json", config_to_json(config));
        check_same(read(folder / "config.json"), config, true);
    }
}

TEST_CASE("config file: a value that no run can use is refused before anything is written") {
    for (const double value :
         {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
          std::numeric_limits<double>::quiet_NaN()}) {
        ExperimentConfig names;
        for (const ConfigKey& named : config_keys(names)) {
            ExperimentConfig config;
            const ConfigKey key = config_key(config, named.name);
            if (!std::holds_alternative<double*>(key.value)) continue;
            *std::get<double*>(key.value) = value;
            INFO(std::string(key.name) << " " << value);
            if (key.name == std::string("grad_clip") && value > 0)
                CHECK_NOTHROW(validate(config));
            else
                check_error(std::string(key.name) + ": " + text_of(key.value) + ", want a finite number",
                            [&] { validate(config); });
        }
    }
    ExperimentConfig config;
    config.data = "caf\xE9.txt";
    check_error(
        "data: \"caf\uFFFD.txt\", want UTF-8, which JSON files are written in; rename the file, or link to "
        "it",
        [&] { validate(config); });
    config.data = std::string("a\0b", 3);
    check_error("data: \"a\\u0000b\", want a text without NUL bytes", [&] { validate(config); });
    config.data = "", config.results_dir = "";
    check_error("results_dir: empty, want a folder; is a variable in the command or the file not set?",
                [&] { validate(config); });
}

TEST_CASE("config file: every whole number has a largest value, and the next one is refused") {
    ExperimentConfig names;
    int64_t keys = 0;
    for (const ConfigKey& named : config_keys(names)) {
        ExperimentConfig config;
        const ConfigKey key = config_key(config, named.name);
        const bool numbers = std::holds_alternative<PerLayer*>(key.value);
        if (!numbers && !std::holds_alternative<int64_t*>(key.value)) continue;
        INFO(std::string(key.name));
        ++keys;
        CHECK(key.most >= 1024);
        for (const int64_t value : {key.most + 1, INT64_MAX}) {
            set_from_text(key.value, key.name, std::to_string(value));
            const std::string message = std::string(key.name) + ": " + std::to_string(value) +
                                        ", want at most " + std::to_string(key.most);
            check_error(message, [&] { check_value(key); });
            check_error(message, [&] { validate(config); });
        }
        for (const int64_t value : {int64_t{-1}, INT64_MIN}) {
            set_from_text(key.value, key.name, std::to_string(value));
            if (key.name == std::string("n_kv_heads")) config.model.attention_type = AttentionType::gqa;
            if (key.group == std::string("Latent attention (--attention_type mla)"))
                config.model.attention_type = AttentionType::mla;
            CHECK_THROWS_AS(validate(config), Error);
        }
        // The largest is taken, or refused for what it makes together with the others.
        set_from_text(key.value, key.name, std::to_string(key.most));
        CHECK_NOTHROW(check_value(key));
        try {
            validate(config);
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::usage);
        }
    }
    CHECK(keys >= 30);
}

TEST_CASE("config file: an unknown key of any length is named in one short line") {
    const TemporaryFolder folder;
    const std::string path = folder / "long.toml";
    write_file_atomic(path, std::string(200'000, 'k') + " = 1\n");
    std::string message;
    try {
        read(path);
    } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::bad_file);
        message = e.what();
    }
    CHECK(message.find("unknown key 'kkk") != std::string::npos);
    CHECK(message.size() < 300 + path.size());
}

TEST_CASE("config file: mistakes are named with file, line and column") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.toml";
    const auto refuse = [&](const std::string& text, const std::string& message) {
        write_file_atomic(path, text);
        check_error(path + message, [&] { read(path); });
    };
    refuse("[model]\nd_model = 64\n",
           ":1: section [model]: keys stand at the top level here; remove the line");
    refuse("seed = 1\n\n [ model.x ]  # mine\n",
           ":3: section [ model.x ]: keys stand at the top level here; remove the line");
    refuse("[[model]]\n", ":1: section [[model]]: keys stand at the top level here; remove the line");
    refuse("model.d_model = 64\n", ":1: model: keys stand at the top level here, without a dot");
    refuse("seed = 1\nd_model 64\n", ":2:9: key-value pair: expected '=', saw '6'");
    refuse("seed = 1\nd_modle = 64\n", ":2:11: unknown key 'd_modle', did you mean d_model?");
    refuse("seed = 1\nseed = 1\n", ":2:8: the key seed appears twice");
    refuse("d_model = \"wide\"\n", ":1:11: d_model is \"wide\", want a whole number");
    refuse("d_model = 64.5\n", ":1:11: d_model is 64.5, want a whole number");
    refuse("d_model = \"64\"\n", ":1:11: d_model is \"64\", want a whole number");
    refuse("d_model = [64]\n", ":1:11: d_model is [64], want a whole number");
    refuse("learning_rate = \"inf\"\nlearning_rat = 1\n",
           ":2:16: unknown key 'learning_rat', did you mean learning_rate?");
    refuse("data = 5\n", ":1:8: data is 5, want a text");
    refuse("tensorboard = \"true\"\n", ":1:15: tensorboard is \"true\", want true or false");
    refuse("optimizer = 3\n", ":1:13: optimizer is 3, want muon or adamw");
    refuse("stages = [\"classic\", \"spares\"]\n",
           ":1:10: stages is [\"classic\",\"spares\"], want a list of classic, sparse and compare, did you "
           "mean sparse?");
    refuse("sparse_top_k = [4, \"x\"]\n",
           ":1:16: sparse_top_k is [4,\"x\"], want a whole number or a list of them");
    refuse("sparse_top_k = []\n", ":1:16: sparse_top_k is [], want a whole number or a list of them");
    refuse("data = 2020-01-01\n",
           ":1:8: data is a date or a time (quote a text), want a number, a text, true or false, or a list "
           "of them");
    refuse("data = {a = 1}\n",
           ":1:8: data is a table, want a number, a text, true or false, or a list of them");
    refuse("resume = true\n", ":1:10: unknown key 'resume'");
    refuse("attention = \"sparse\"\n", ":1:13: unknown key 'attention'");
    write_file_atomic(path, "classic_steps = 3e3\nsparse_top_k = 8.0\nsparse_steps = 12_000\nseed = 0x10\n");
    const ExperimentConfig config = read(path);
    CHECK(config.classic_steps == 3000);
    CHECK(config.model.sparse_top_k == PerLayer(8));
    CHECK(config.sparse_steps == 12000);
    CHECK(config.seed == 16);
}

TEST_CASE("config file: what is too large or too deep is refused before it is parsed") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.toml";
    const auto refuse = [&](const std::string& text, const std::string& message) {
        write_file_atomic(path, text);
        check_error(path + message, [&] { ConfigFile{path}; });
    };
    refuse(std::string(300000, '#'), ": more than 262144 bytes");
    refuse("\n\nx = " + std::string(17, '['), ":3: nested more than 16 deep");
    refuse("x = " + std::string(100000, '['), ":1: nested more than 16 deep");
    refuse("x = " + std::string(60000, '{'), ":1: nested more than 16 deep");
    std::string dotted = "a";
    for (int i = 0; i < 50000; ++i) dotted += ".a";
    refuse(dotted + " = 1", ":1: nested more than 16 deep");
    refuse("[" + dotted + "]", ":1: nested more than 16 deep");
    refuse("x = {" + dotted + " = 1}", ":1: nested more than 16 deep");
    // Not deep, though it looks so.
    const std::string open(100, '['), dots(100, '.');
    for (const std::string& text :
         {"# " + open + dots + "\n", "data = \"" + open + "\\\"" + dots + "\"\n",
          "data = '" + open + dots + "\\'\n", "data = \"\"\"\n" + open + "\"\"" + dots + "\"\"\"\n",
          "data = '''" + open + "\n" + dots + "'''\n"}) {
        INFO(text);
        write_file_atomic(path, text);
        CHECK_NOTHROW(ConfigFile{path});
    }
    check_error("/dev/zero: more than 262144 bytes", [] { ConfigFile{"/dev/zero"}; });
}

TEST_CASE("config file: the config.json of a run, and what programs have beside the keys") {
    const TemporaryFolder folder;
    ExperimentConfig config;
    apply_preset(config, "small");
    config.model.attention = AttentionKind::sparse;
    config.grad_clip = std::numeric_limits<double>::infinity();
    write_json_atomic(folder / "config.json", config_to_json(config));
    CHECK(ConfigFile(folder / "config.json").text_of("preset") == "small");
    CHECK(read(folder / "config.json").grad_clip == config.grad_clip);
    const std::string path = folder / "x.json";
    for (const auto& [text, message] :
         {std::pair{"{\"d_modle\": 3}", ": unknown key 'd_modle', did you mean d_model?"},
          std::pair{"{\"d_model\": \"x\"}", ": d_model is \"x\", want a whole number"},
          std::pair{"[]", ": want one JSON object of configuration keys"},
          std::pair{"{\"seed\": 1,\n\"seed\": 2}", ": the key \"seed\" appears twice in one object"}}) {
        write_file_atomic(path, text);
        check_error(path + message, [&] { read(path); });
    }

    std::vector<std::string> texts{"old"};
    int64_t number = 0, kept = 7;
    write_file_atomic(folder / "x.toml", "vary = [\"a\", \"b,c\"]\nseeds = 3\nkept = 8\n");
    ConfigFile(folder / "x.toml").set({{"vary", &texts}, {"seeds", &number}, {"kept", &kept, true}});
    CHECK(texts == std::vector<std::string>{"a", "b,c"});
    CHECK(number == 3);
    CHECK(kept == 7);  // given on the command line
}
