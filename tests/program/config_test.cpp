#include "framework/program/config.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>

#include "framework/core/error.h"
#include "framework/io/json_file.h"
#include "framework/program/command_line.h"
#include "framework/train/evaluate.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

ExperimentCommand parse(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "exp4");
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    return parse_experiment(static_cast<int>(argv.size()), argv.data(), "test");
}

}  // namespace

TEST_CASE("command line: presets, files and flags in that order") {
    CHECK(parse({}).config.model.d_model == 256);
    CHECK(parse({"--preset", "small"}).config.model.d_model == 128);
    CHECK(parse({"--preset", "small", "--d_model", "64"}).config.model.d_model == 64);
    const TemporaryFolder folder;
    std::ofstream(folder / "c.toml") << "preset = \"large\"\nd_ff = 96\nlearning_rate = 1e-4\n";
    const ExperimentConfig c = parse({"--config", folder / "c.toml", "--d_ff", "48"}).config;
    CHECK(c.model.d_model == 512);
    CHECK(c.model.d_ff == 48);
    CHECK(c.learning_rate == 1e-4);
}

TEST_CASE("command line: what --print_config prints is a config file that gives the same configuration") {
    const TemporaryFolder folder;
    ExperimentConfig c = parse({"--preset",
                                "small",
                                "--sparse_top_k",
                                "7",
                                "--data",
                                "my text.txt",
                                "--attention_type",
                                "gqa",
                                "--n_kv_heads",
                                "4",
                                "--ffn",
                                "swiglu",
                                "--router",
                                "sigmoid_bias",
                                "--shared_experts",
                                "2",
                                "--routed_scaling_factor",
                                "2.5",
                                "--bias_update_speed",
                                "0.002"})
                             .config;
    CHECK(c.model.routed_scaling_factor == 2.5);
    std::ofstream(folder / "c.toml") << config_to_toml(c);
    CHECK(config_to_json(parse({"--config", folder / "c.toml"}).config) == config_to_json(c));
    CHECK(!parse({"--config", folder / "c.toml"}).config.tensorboard);
    c.tensorboard = true;
    std::ofstream(folder / "c.toml") << config_to_toml(c);
    CHECK(parse({"--config", folder / "c.toml"}).config.tensorboard);
}

TEST_CASE("command line: switches, and options that one program adds") {
    CHECK(parse({"--tensorboard"}).config.tensorboard);
    CHECK(!parse({"--tensorboard=false"}).config.tensorboard);
    std::vector<std::string> arguments{"exp4",   "--list", "a,b",    "--steps", "3",
                                       "--list", "c",      "--d_ff", "48"};
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    std::vector<std::string> list;
    int64_t steps = 0;
    const ExperimentCommand command =
        parse_experiment(static_cast<int>(argv.size()), argv.data(), "test",
                         {{"list", "a list", &list}, {"steps", "a number", &steps}});
    CHECK(list == std::vector<std::string>{"a,b", "c"});
    CHECK(steps == 3);
    CHECK(command.config.model.d_ff == 48);
}

TEST_CASE("config: one key by its name, from text and as text") {
    ExperimentConfig c;
    set_config_value(c, "sparse_top_k", "7");
    set_config_value(c, "learning_rate", "1e-4");
    set_config_value(c, "indexer", "deepseek");
    set_config_value(c, "tensorboard", "true");
    CHECK(c.model.sparse_top_k == 7);
    CHECK(c.learning_rate == 1e-4);
    CHECK(c.model.indexer == IndexerKind::deepseek);
    CHECK(c.tensorboard);
    for (const char* key : {"sparse_top_k", "learning_rate", "indexer", "tensorboard", "seed"}) {
        ExperimentConfig copy;
        set_config_value(copy, key, config_value(c, key));
        CHECK(config_value(copy, key) == config_value(c, key));
    }
    check_error("sparse_top_k: '7x', want a whole number, or one per layer such as 64,64,32",
                [&] { set_config_value(c, "sparse_top_k", "7x"); });
    check_error("sparse_top_k: '', want a whole number, or one per layer such as 64,64,32",
                [&] { set_config_value(c, "sparse_top_k", ""); });
    check_error("learning_rate: 'fast', want a number",
                [&] { set_config_value(c, "learning_rate", "fast"); });
    check_error("learning_rate: '1e999', want a number that float64 can hold",
                [&] { set_config_value(c, "learning_rate", "1e999"); });
    check_error("seed: '9223372036854775808', want a whole number below 2^63",
                [&] { set_config_value(c, "seed", "9223372036854775808"); });
    set_config_value(c, "classic_steps", "3e3");
    CHECK(c.classic_steps == 3000);
    check_error("classic_steps: '3.5', want a whole number",
                [&] { set_config_value(c, "classic_steps", "3.5"); });
    check_error("classic_steps: '1e17', want a whole number",
                [&] { set_config_value(c, "classic_steps", "1e17"); });
    check_error("tensorboard: 'yes', want true or false", [&] { set_config_value(c, "tensorboard", "yes"); });
    check_error("unknown key 'd_modle', did you mean d_model? (--help lists all)",
                [&] { set_config_value(c, "d_modle", "8"); });
}

TEST_CASE("config: named values are read and written by name, everywhere") {
    const ExperimentConfig c =
        parse({"--stages", "compare,classic", "--device", "cpu", "--optimizer", "adamw", "--protocol",
               "overlap", "--attention_type", "mla", "--indexer", "deepseek"})
            .config;
    CHECK(c.stages == std::vector{ExperimentStage::compare, ExperimentStage::classic});
    CHECK(c.device == DeviceChoice::cpu);
    CHECK(config_value(c, "stages") == "compare,classic");
    CHECK(config_to_json(c).at("optimizer") == "adamw");
    CHECK(config_from_json(config_to_json(c), "test").protocol == Protocol::overlap);
    CHECK(config_to_toml(c).find("attention_type = \"mla\"") != std::string::npos);
    const TemporaryFolder folder;
    std::ofstream(folder / "c.toml") << config_to_toml(c);
    const ExperimentConfig again = parse({"--config", folder / "c.toml"}).config;
    CHECK(config_to_toml(again) == config_to_toml(c));
    std::ofstream(folder / "c.toml") << "stages = [\"classic\", \"compare\"]\n";
    CHECK(config_value(parse({"--config", folder / "c.toml"}).config, "stages") == "classic,compare");
}

TEST_CASE("config: every key says what it is about") {
    using enum KeyNature;
    ExperimentConfig c;
    const auto names = [&](KeyNature nature) {
        std::vector<std::string> found;
        for (const ConfigKey& key : config_keys(c))
            if (key.is(nature)) found.emplace_back(key.name);
        return found;
    };
    for (const ConfigKey& key : config_keys(c)) {
        INFO(key.name);
        CHECK(key.is(model | data | training | running | place));
        CHECK(config_to_json(c).contains(key.name) == key.saved());
        const auto inside = [&](const void* value) {
            return !std::less<>()(value, static_cast<const void*>(&c.model)) &&
                   std::less<>()(value, static_cast<const void*>(&c.model + 1));
        };
        if (!std::holds_alternative<NamedChoice>(key.value))
            CHECK(key.is(model) == std::visit(
                                       [&](const auto& value) {
                                           if constexpr (std::is_pointer_v<std::decay_t<decltype(value)>>)
                                               return inside(value);
                                           return false;
                                       },
                                       key.value));
    }
    using Names = std::vector<std::string>;
    CHECK(names(data) == Names{"vocab_size", "max_seq_len", "task", "recall_pairs", "data", "text_key",
                               "tokenizer", "protocol", "held_out", "max_tokens", "num_documents",
                               "val_fraction"});
    CHECK(names(place) == Names{"cache_dir", "results_dir", "stages", "tensorboard"});
    CHECK(names(running) == Names{"device", "threads", "memory_limit_mb", "checkpoint_every"});
    CHECK(names(classic_only) == Names{"classic_steps"});
    CHECK(names(sparse_only) == Names{"selector",
                                      "sink_tokens",
                                      "selector_seed",
                                      "selector_block",
                                      "hisa_candidates",
                                      "indexer",
                                      "indexer_heads",
                                      "indexer_dim",
                                      "indexer_rope_dim",
                                      "indexer_rope_layout",
                                      "indexer_precision",
                                      "indexer_weights",
                                      "indexer_pool",
                                      "indexer_frozen",
                                      "indexer_scale",
                                      "sparse_top_k",
                                      "i_know_this_leaks",
                                      "index_share",
                                      "index_share_loss",
                                      "indexer_loss",
                                      "indexer_warmup",
                                      "indexer_lr",
                                      "indexer_loss_weight",
                                      "warmup_steps",
                                      "warmup_lr",
                                      "sparse_steps",
                                      "sparse_learning_rate",
                                      "sparse_init"});
}

TEST_CASE("config: an older config.json, without the newer keys, means what it did") {
    for (const char* preset : {"small", "medium", "large", "long"}) {
        auto json = config_to_json(parse({"--preset", preset}).config);
        for (const char* key : {"muon_matrices", "muon_gates", "router_weights", "indexer_lr", "held_out",
                                "indexer_loss", "indexer_warmup"})
            CHECK(json.erase(key) == 1);
        const ExperimentConfig old = config_from_json(json, "test");
        CHECK(old.muon_matrices == PackedMatrices::whole);
        CHECK(old.muon_gates);
        CHECK(old.model.router_weights == RouterWeights::selected);
        CHECK(old.indexer_lr == 0);
        CHECK(old.model.indexer_loss == IndexerLoss::selected);
        CHECK(old.indexer_warmup == IndexerWarmup::kl);
        CHECK(old.held_out == HeldOut::tail);
    }
}

TEST_CASE("command line: --config takes an older config.json as it was meant, whatever presets have become") {
    const TemporaryFolder folder;
    ExperimentConfig trained = parse({"--preset", "small"}).config;
    auto json = config_to_json(trained);
    for (const char* key : {"muon_matrices", "held_out"}) json.erase(key);
    write_json_atomic(folder / "config.json", json);
    const ExperimentConfig again = parse({"--config", folder / "config.json"}).config;
    CHECK(again.preset == "small");
    CHECK(again.model.d_model == 128);
    CHECK(again.muon_matrices == PackedMatrices::whole);
    CHECK(again.held_out == HeldOut::tail);
    CHECK(parse({"--preset", "small"}).config.held_out == HeldOut::blocks);
    CHECK(parse({"--preset", "small"}).config.muon_matrices == PackedMatrices::qkv);
    json.erase("attention");  // a person's own file: the preset's values hold where it says nothing
    write_json_atomic(folder / "mine.json", json);
    CHECK(parse({"--config", folder / "mine.json"}).config.held_out == HeldOut::blocks);
}

TEST_CASE("config: what trains an indexer is refused where none is trained") {
    const auto refuse = [](const std::string& error, std::vector<std::string> words) {
        check_error(error, [&] { validate(parse(std::move(words)).config); });
    };
    const std::string warmup = ", so that no warm-up trains an indexer; want kl, the default",
                      sparse = ", so that the sparse stage trains no indexer; want selected, the default";
    const std::string entropy = "indexer_warmup: entropy with ", full = "indexer_loss: full_row with ";
    refuse(entropy + "selector recent" + warmup, {"--indexer_warmup", "entropy", "--selector", "recent"});
    refuse(entropy + "indexer_frozen true" + warmup, {"--indexer_warmup", "entropy", "--indexer_frozen"});
    refuse(entropy + "warmup_steps 0" + warmup, {"--indexer_warmup", "entropy", "--warmup_steps", "0"});
    refuse(full + "selector block_mean" + sparse, {"--indexer_loss", "full_row", "--selector", "block_mean"});
    refuse(full + "indexer_frozen true" + sparse, {"--indexer_loss", "full_row", "--indexer_frozen"});
    refuse(full + "indexer_loss_weight 0" + sparse,
           {"--indexer_loss", "full_row", "--indexer_loss_weight", "0"});
    refuse("indexer_warmup: 'negentropy', want kl or entropy, did you mean entropy?",
           {"--indexer_warmup", "negentropy"});
    refuse("indexer_loss: 'full', want selected or full_row", {"--indexer_loss", "full"});
    for (const char* selector : {"indexer", "hisa"}) {
        const ExperimentConfig c = parse({"--selector", selector, "--indexer_warmup", "entropy",
                                          "--indexer_loss", "full_row", "--index_share", "FFFSSS"})
                                       .config;
        validate(c);
        CHECK(selector_loss(c, AttentionStage::dense) == SelectorLoss::entropy);
        CHECK(selector_loss(c, AttentionStage::sparse) == SelectorLoss::full_alignment);
    }
    const ExperimentConfig none = parse({"--indexer_loss", "full_row", "--warmup_steps", "0"}).config;
    CHECK(selector_loss(none, AttentionStage::sparse) == SelectorLoss::full_alignment);
    CHECK(selector_loss(ExperimentConfig{}, AttentionStage::dense) == SelectorLoss::alignment);
    CHECK(selector_loss(ExperimentConfig{}, AttentionStage::sparse) == SelectorLoss::alignment);
}

TEST_CASE("config: the long preset leaves most keys out") {
    const ExperimentConfig c = parse({"--preset", "long"}).config;
    CHECK(c.model.max_seq_len >= 1024);
    for (int64_t layer = 0; layer < c.model.n_layers; ++layer)
        CHECK(16 * c.model.sparse_top_k.of(layer) <= c.model.max_seq_len);
    validate(c);
}

TEST_CASE("config: which routers are trained by the language model") {
    const auto trained = [](const std::vector<std::string>& arguments) {
        return parse(arguments).config.model.trains_router();
    };
    using Words = std::vector<std::string>;
    const Words one{"--num_experts", "2", "--expert_top_k", "1", "--router_weights"};
    const auto with = [&](const char* weights) {
        Words words = one;
        words.emplace_back(weights);
        return trained(words);
    };
    for (const char* preset : {"small", "medium", "large", "long"}) CHECK(trained({"--preset", preset}));
    CHECK(!with("selected"));
    for (const char* weights : {"all", "scaled", "straight_through"}) CHECK(with(weights));
    CHECK(trained({"--num_experts", "4", "--expert_top_k", "2", "--router_weights", "selected"}));
    CHECK(!trained({"--num_experts", "4", "--expert_top_k", "1", "--router", "sigmoid_bias",
                    "--router_weights", "scaled"}));  // softmax alone has them
}

TEST_CASE("command line: indexer_precision") {
    CHECK(parse({}).config.model.indexer_precision == IndexerPrecision::fp32);
    const ExperimentConfig config = parse({"--indexer_precision", "fp8"}).config;
    CHECK(config_from_json(config_to_json(config), "test").model.indexer_precision == IndexerPrecision::fp8);
    CHECK(config_to_toml(config).find("indexer_precision = \"fp8\"") != std::string::npos);
    CHECK(selector_config(config.model, 0).indexer.precision == IndexerPrecision::fp8);
    check_error("indexer_precision: 'fp16', want fp32, bf16, fp8 or int8", [] {
        parse({"--indexer_precision", "fp16"});
    });
    check_error("unknown argument --indexer_precison, did you mean --indexer_precision? (--help lists all)",
                [] {
                    parse({"--indexer_precison", "fp8"});
                });
    check_error(
        "indexer_dim: 48, want a power of two with indexer_precision fp8, which rotates rows by a "
        "Hadamard matrix; choose 64, or bf16 or int8",
        [] {
            parse({"--indexer_precision", "fp8", "--indexer_dim", "48"});
        });
    CHECK(parse({"--indexer_precision", "int8", "--indexer_dim", "48"}).config.model.indexer_dim == 48);
    check_error("indexer_precision: fp8 with indexer_pool 4, whose scores are float32's; want fp32", [] {
        parse({"--indexer_precision", "fp8", "--indexer_pool", "4"});
    });
    check_error("indexer_precision: int8 with selector hisa, whose scores are float32's; want fp32", [] {
        parse({"--indexer_precision", "int8", "--selector", "hisa"});
    });
    check_error("indexer_dim: 2048, want at most 1024 with indexer_precision int8", [] {
        parse({"--indexer_precision", "int8", "--indexer_dim", "2048"});
    });
}

TEST_CASE("command line: index_share") {
    const std::vector<std::string> small{"--preset", "small"};
    const auto with = [&](std::vector<std::string> more) {
        more.insert(more.begin(), small.begin(), small.end());
        return parse(more).config;
    };
    CHECK(with({}).model.own_indexes() == 4);
    const ExperimentConfig shared = with({"--index_share", "FSFS", "--sparse_top_k", "9,9,7,7"});
    CHECK(shared.model.own_indexes() == 2);
    CHECK(config_from_json(config_to_json(shared), "test").model.index_share == "FSFS");
    for (const char* wrong : {"FSF", "SFFF", "FSfS", "FSFSF"})
        check_error(
            std::string("index_share: '") + wrong +
                "', want a letter for each of n_layers 4: F (its own) or S (that of the last F before "
                "it), the first an F, as in FSSS",
            [&] {
                with({"--index_share", wrong});
            });
    check_error(
        "sparse_top_k: 7 in layer 1, which shares the index of layer 0 (index_share FSFS), want its 9", [&] {
            with({"--index_share", "FSFS", "--sparse_top_k", "9,7,7,7"});
        });
}

TEST_CASE("command line: ffn_layers") {
    const auto with = [](const std::string& letters) {
        return parse({"--preset", "small", "--ffn_layers", letters}).config;
    };
    CHECK(parse({"--preset", "small"}).config.model.expert_layers() == 4);
    const ModelConfig one = with("DMMM").model;
    CHECK(one.dense_layers() == 1);
    CHECK(one.is_dense_layer(0));
    CHECK(!one.is_dense_layer(1));
    CHECK(one.dense_width() == one.d_ff);
    CHECK(!with("DDDD").model.has_experts());
    CHECK(with("").model.has_experts());
    CHECK(config_from_json(config_to_json(with("MDMD")), "test").model.ffn_layers == "MDMD");
    for (const char* wrong : {"DMM", "DMmM", "MMMMM", "FSSS"})
        check_error(std::string("ffn_layers: '") + wrong +
                        "', want a letter for each of n_layers 4: D (one dense feed-forward) or M (a mixture "
                        "of experts), as in DMMM",
                    [&] { with(wrong); });
}

TEST_CASE("config: an older config.json means tied embeddings, experts everywhere and plain RoPE") {
    auto json = config_to_json(parse({"--preset", "small"}).config);
    for (const char* key : {"tie_embeddings", "ffn_layers", "dense_d_ff", "norm_topk_prob", "n_group",
                            "topk_group", "rope_scaling", "rope_factor", "rope_original_max_seq_len",
                            "rope_beta_fast", "rope_beta_slow", "rope_mscale", "rope_mscale_all_dim",
                            "latent_norm_eps", "attention_bias", "indexer_rope_dim", "indexer_rope_layout"})
        CHECK(json.erase(key) == 1);
    const ModelConfig m = config_from_json(json, "test").model;
    CHECK(m.tie_embeddings);
    CHECK(m.expert_layers() == m.n_layers);
    CHECK(m.norm_topk_prob);
    CHECK(m.n_group == 1);
    CHECK(m.rope_scaling == RopeScaling::none);
    CHECK(m.latent_norm_eps == 0);
    CHECK(!m.attention_bias);
    CHECK(m.indexer_rotary_dims() == m.indexer_dim / 2);
    CHECK(m.indexer_rope_layout == RopeLayout::half_split);
}

TEST_CASE("command line: sparse_top_k is one number or one per layer, as a flag and in a file") {
    const TemporaryFolder folder;
    const auto top_k = [&](const std::vector<std::string>& arguments) {
        return parse(arguments).config.model.sparse_top_k;
    };
    CHECK(top_k({"--sparse_top_k", "9"}) == PerLayer(9));
    CHECK(top_k({"--sparse_top_k", "8", "--sparse_top_k", "9"}) == PerLayer(9));
    CHECK(top_k({"--preset", "small", "--sparse_top_k", "16,16,8,4"}) == PerLayer({16, 16, 8, 4}));
    CHECK(top_k({"--preset", "small", "--sparse_top_k", "1,2,3,4", "--sparse_top_k=4,3,2,1"}) ==
          PerLayer({4, 3, 2, 1}));
    for (const char* line : {"sparse_top_k = [16, 16, 8, 4]", "sparse_top_k = \"16,16,8,4\""}) {
        std::ofstream(folder / "c.toml") << "preset = \"small\"\n" << line << "\nd_ff = 96\n";
        CHECK(top_k({"--config", folder / "c.toml"}) == PerLayer({16, 16, 8, 4}));
        CHECK(top_k({"--config", folder / "c.toml", "--sparse_top_k", "5"}) == PerLayer(5));
    }
    std::ofstream(folder / "c.toml") << "sparse_top_k = 7\n";
    CHECK(top_k({"--config", folder / "c.toml"}) == PerLayer(7));

    const ExperimentConfig listed =
        parse({"--preset", "small", "--data", "a b.txt", "--sparse_top_k", "16,16,8,4"}).config;
    std::ofstream(folder / "c.toml") << config_to_toml(listed);
    CHECK(config_to_toml(listed).find("sparse_top_k = [16,16,8,4]") != std::string::npos);
    CHECK(config_to_json(parse({"--config", folder / "c.toml"}).config) == config_to_json(listed));
    CHECK(config_to_json(listed).at("sparse_top_k").dump() == "[16,16,8,4]");
    CHECK(config_from_json(config_to_json(listed), "c.json").model.sparse_top_k == PerLayer({16, 16, 8, 4}));

    for (const char* text : {"many", "4,", ",4", "4;5", "", "4,5.5"})
        check_error(std::string("sparse_top_k: '") + text +
                        "', want a whole number, or one per layer such as 64,64,32",
                    [&] { per_layer_from_text("sparse_top_k", text); });
    check_error("sparse_top_k: 2 numbers (4,5) for n_layers 6; give one for all layers or one for each", [] {
        parse({"--sparse_top_k", "4,5"});
    });
    check_error("c.json: sparse_top_k is [4,\"x\"], want a whole number or a list of them", [] {
        config_from_json({{"sparse_top_k", {4, "x"}}}, "c.json");
    });
    check_error("c.json: sparse_top_k is [], want a whole number or a list of them", [] {
        config_from_json({{"sparse_top_k", nlohmann::ordered_json::array()}}, "c.json");
    });
}

TEST_CASE("command line: an empty text is a mistake, where it has no meaning of its own") {
    for (const char* key : {"results_dir", "data", "tokenizer", "config", "preset"})
        check_error(std::string(key) + ": empty; leave it out, or is a variable in the command not set?",
                    [&] {
                        parse({std::string("--") + key, ""});
                    });
    CHECK(parse({"--cache_dir", ""}).config.cache_dir.empty());  // none is kept, as the help says
}

TEST_CASE("command line: --config takes the config.json of a run, and flags win over it") {
    const TemporaryFolder folder;
    ExperimentConfig trained =
        parse({"--preset", "large", "--grad_clip", "inf", "--sparse_top_k", "9"}).config;
    trained.model.attention = AttentionKind::sparse;
    write_json_atomic(folder / "config.json", config_to_json(trained));
    const ExperimentConfig again = parse({"--config", folder / "config.json", "--d_ff", "48"}).config;
    CHECK(again.preset == "large");
    CHECK(again.model.d_model == 512);
    CHECK(std::isinf(again.grad_clip));
    CHECK(again.model.sparse_top_k == PerLayer(9));
    CHECK(again.model.d_ff == 48);
}

TEST_CASE("config: the product of the sizes is bounded, and advice is true") {
    const auto refused = [](const std::vector<std::string>& arguments) {
        try {
            parse(arguments);
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::usage);
            return std::string(e.what());
        }
        return std::string();
    };
    CHECK(refused({"--d_model", "16777216", "--d_ff", "16777216", "--num_experts", "65536", "--n_layers",
                   "65536"}) ==
          "the model would have 9.2e+18 parameters (d_model 16777216, n_layers 65536, 65536 experts of d_ff "
          "16777216, "
          "vocab_size 4096), want at most 1.1e+12; lower the width of the model, the number of layers or "
          "experts, or "
          "the width of the experts");
    CHECK(refused({"--indexer_heads", "65536", "--indexer_dim", "16777216"})
              .starts_with("the model would have 1.7e+15"));
    CHECK(refused({"--shared_experts", "65536"}).empty());
    CHECK(refused({"--d_model", "99999999999"}) == "d_model: 99999999999, want at most 16777216");
    for (const int64_t heads : {1, 2, 3, 8, 12})
        for (int64_t width = 1; width < 60; ++width) {
            const std::string message =
                refused({"--d_model", std::to_string(width), "--n_heads", std::to_string(heads)});
            const size_t advice = message.find("choose d_model = ");
            if (message.empty()) continue;
            REQUIRE_MESSAGE(advice != std::string::npos, message);
            const std::string better = std::to_string(std::stoll(message.substr(advice + 17)));
            CHECK_MESSAGE(refused({"--d_model", better, "--n_heads", std::to_string(heads)}).empty(),
                          message);
        }
}

TEST_CASE("command line: mistakes get one clear line") {
    check_error("unknown argument --sparse_topk, did you mean --sparse_top_k? (--help lists all)", [] {
        parse({"--sparse_topk", "3"});
    });
    check_error("preset: 'tiny', want small, medium, large or long", [] { parse({"--preset", "tiny"}); });
    check_error("d_model: 250 is not divisible by n_heads 8; choose d_model = 256 or another n_heads", [] {
        parse({"--d_model", "250"});
    });
    check_error("stages: 'classic,spares', want a list of classic, sparse and compare, did you mean sparse?",
                [] {
                    parse({"--stages", "classic,spares"});
                });
    check_error("stages: '', want a list of classic, sparse and compare", [] { parse({"--stages", ""}); });
    check_error("ffn: 'gelu', want silu or swiglu", [] { parse({"--ffn", "gelu"}); });
    check_error("router: 'sigmoid', want softmax or sigmoid_bias", [] { parse({"--router", "sigmoid"}); });
    check_error("attention_type: 'mqa', want mha, gqa or mla", [] { parse({"--attention_type", "mqa"}); });
    check_error("precision: 'fp8', want auto, fp32, tf32 or bf16", [] { parse({"--precision", "fp8"}); });
    check_error("device: 'gpu', want auto, cpu or cuda", [] { parse({"--device", "gpu"}); });
    check_error("protocol: 'holdout', want heldout or overlap, did you mean heldout?", [] {
        parse({"--protocol", "holdout"});
    });
    check_error("optimizer: 'sgd', want muon or adamw", [] { parse({"--optimizer", "sgd"}); });
    check_error("sparse_init: 'random', want scratch or classic", [] { parse({"--sparse_init", "random"}); });
    check_error("d_model: 'many', want a whole number", [] { parse({"--d_model", "many"}); });
    check_error("--d_model: needs a value", [] { parse({"--d_model="}); });
    check_error("--d_model: needs a value", [] { parse({"--d_model"}); });
    check_error("learning_rate: '3x', want a number", [] { parse({"--learning_rate", "3x"}); });
    check_error("tensorboard: 'maybe', want true or false", [] { parse({"--tensorboard=maybe"}); });
    CHECK_THROWS_AS(parse({"--config", "/nowhere/c.toml"}), Error);
    const TemporaryFolder folder;
    std::ofstream(folder / "c.toml") << "d_modle = 64\n";
    check_error((folder / "c.toml") + ":1:11: unknown key 'd_modle', did you mean d_model?", [&] {
        parse({"--config", folder / "c.toml"});
    });
}

TEST_CASE("config.json: round trip, wrong types and unknown keys") {
    ExperimentConfig c;
    apply_preset(c, "small");
    c.model.attention = AttentionKind::sparse;
    c.data = "x y.txt";
    CHECK(config_to_json(config_from_json(config_to_json(c), "c.json")) == config_to_json(c));
    check_error("c.json: d_model is \"wide\", want a whole number", [] {
        config_from_json({{"d_model", "wide"}}, "c.json");
    });
    check_error("c.json: ffn is \"swigul\", want silu or swiglu, did you mean swiglu?", [] {
        config_from_json({{"ffn", "swigul"}}, "c.json");
    });
    check_error("c.json: attention is 3, want classic or sparse", [] {
        config_from_json({{"attention", 3}}, "c.json");
    });
    check_error("c.json: unknown key 'colour'", [] { config_from_json({{"colour", 1}}, "c.json"); });
    check_error("c.json: seed is 18446744073709551615, want a whole number", [] {
        config_from_json({{"seed", UINT64_MAX}}, "c.json");
    });
    check_error("c.json: d_model is 64.5, want a whole number", [] {
        config_from_json({{"d_model", 64.5}}, "c.json");
    });
    check_error("c.json: learning_rate is null, want a number", [] {
        config_from_json({{"learning_rate", nullptr}}, "c.json");
    });
    check_error("c.json: data is an object, want a text", [] {
        config_from_json({{"data", {{"x", 1}}}}, "c.json");
    });
    CHECK(config_from_json({{"colour", 1}, {"d_model", 12}}, "c.json", true).model.d_model == 12);
}

TEST_CASE("sparsity: the mean over layers that read different numbers of keys") {
    ModelConfig c;
    c.n_layers = 2, c.max_seq_len = 10;
    c.sparse_top_k = PerLayer({2, 6});
    const Sparsity a = sparsity_of(10, 2), b = sparsity_of(10, 6), both = sparsity_of(c);
    CHECK(both.square == doctest::Approx((a.square + b.square) / 2));
    CHECK(both.causal == doctest::Approx((a.causal + b.causal) / 2));
    c.n_layers = 6, c.sparse_top_k = 3;
    CHECK(sparsity_of(c).square == sparsity_of(10, 3).square);
    CHECK(sparsity_of(c).causal == sparsity_of(10, 3).causal);
}

TEST_CASE("sparsity: counted entries of the square and of the causal triangle") {
    for (const int64_t T : {1, 5, 128})
        for (const int64_t k : {1, 3, 64, 200}) {
            int64_t read = 0;
            for (int64_t t = 0; t < T; ++t) read += std::min(k, t + 1);
            const Sparsity s = sparsity_of(T, k);
            CHECK(s.square == doctest::Approx(1 - static_cast<double>(read) / static_cast<double>(T * T)));
            CHECK(s.causal ==
                  doctest::Approx(1 - static_cast<double>(read) / static_cast<double>(T * (T + 1) / 2)));
        }
}

namespace {

// What run_program prints when its body fails so.
std::string complaint(const Error& error, const SizeFlags& flags, int status) {
    std::ostringstream printed;
    std::streambuf* const before = std::cerr.rdbuf(printed.rdbuf());
    const int got = run_program("p", flags, [&]() -> int { throw error; });
    std::cerr.rdbuf(before);
    CHECK(got == status);
    return printed.str();
}

}  // namespace

TEST_CASE("programs: what an error advises to lower is named as the command line calls it") {
    const std::vector<SizeKind> lower{SizeKind::batch, SizeKind::expert_width, SizeKind::selected_keys};
    const std::string sentence =
        "no room; lower the batch, the width of the experts or the number of selected keys";
    CHECK(sentence == "no room; lower " + one_of(lower));
    const Error error(ErrorKind::out_of_memory, sentence, lower);
    CHECK(complaint(error, experiment_flags(), 5) ==
          "p: " + sentence + " (--batch_size, --d_ff or --sparse_top_k)\n");
    CHECK(complaint(error, {{SizeKind::batch, "--rows"}}, 5) == "p: " + sentence + " (--rows)\n");
    CHECK(complaint(error, {}, 5) == "p: " + sentence + "\n");
    CHECK(complaint(Error(ErrorKind::bad_file, "x.txt: empty"), experiment_flags(), 3) ==
          "p: x.txt: empty\n");
}

TEST_CASE("programs: errors of libraries are told in this program's words, with the right exit code") {
    const auto told = [](const std::function<int()>& body, int status) {
        std::ostringstream printed;
        std::streambuf* const before = std::cerr.rdbuf(printed.rdbuf());
        const int got = run_program("p", {}, body);
        std::cerr.rdbuf(before);
        CHECK(got == status);
        return printed.str();
    };
    const TemporaryFolder folder;
    CHECK(told([&]() -> int { return static_cast<int>(std::filesystem::file_size(folder / "none")); }, 3) ==
          "p: " + (folder / "none") + ": cannot read or write: No such file or directory\n");
    CHECK(told(
              []() -> int {
                  throw std::filesystem::filesystem_error("x", std::make_error_code(std::errc::io_error));
              },
              3) == "p: a file: cannot read or write: Input/output error\n");
    CHECK(told([]() -> int { return nlohmann::json("x").get<int>(); }, 1) ==
          "p: type must be number, but is string\n");
    CHECK(told([]() -> int { throw std::bad_alloc(); }, 5)
              .starts_with("p: out of memory: the system gives no more"));
    CHECK(told([] { return 0; }, 0).empty());
    CHECK(told([] { return 130; }, 130).empty());
}

TEST_CASE("programs: the flags of the sizes are keys of the configuration") {
    for (const auto& [size, flag] : experiment_flags()) {
        CHECK_NOTHROW_MESSAGE(config_value({}, flag.substr(2)), flag);
        CHECK(flag.substr(0, 2) == "--");
        CHECK(std::string(name_of(size)) != name_of(SizeKind::none));
    }
}
