// generate and export_model as a user meets them.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "framework/autograd/autograd.h"
#include "framework/core/allocator.h"
#include "framework/core/error.h"
#include "framework/data/tokenizer.h"
#include "framework/data/utf8_stream.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/io/npy.h"
#include "framework/io/pt.h"
#include "framework/io/safetensors.h"
#include "framework/runs/experiment.h"
#include "framework/train/cross_evaluation.h"
#include "framework/train/evaluate.h"
#include "framework/train/model_file.h"
#include "tests/support/python.h"
#include "tests/support/sanitized.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

const std::string tools = source_dir() + "/tools/";

const Tokenizer& tokenizer() {
    static const Tokenizer trained =
        Tokenizer::train(read_file(source_dir() + "/data/excerpt/persuasion.txt").substr(0, 20000), 300);
    return trained;
}

// A model of random weights, as exp4 would leave it.
FinalModel random_model(const std::string& attention, const std::string& indexer = "plain") {
    FinalModel m;
    ModelConfig& c = m.config.model;
    c.attention = from_name<AttentionKind>("attention", attention);
    c.indexer = from_name<IndexerKind>("indexer", indexer);
    c.vocab_size = tokenizer().vocab_size();
    c.d_model = 32, c.n_heads = 2, c.n_layers = 2, c.d_ff = 24, c.max_seq_len = 16;
    c.num_experts = 3, c.indexer_heads = 2, c.indexer_dim = 8, c.sparse_top_k = 6;
    m.tokenizer_json = tokenizer().to_json();
    m.model = std::make_unique<Transformer>(c, ParameterInit{.std = 0.3});
    return m;
}

// folder/final_model.pt, and its path.
std::string write_run(const TemporaryFolder& folder, const FinalModel& model) {
    write_model(folder / "final_model.pt", model);
    return folder / "final_model.pt";
}

// Runs and checks the exit code and that what it printed holds `text`.
std::string check_run(const std::string& command, int status, const std::string& text) {
    std::string output;
    const int got = run_command(command, output);
    INFO(command << "\n" << output);
    CHECK(got == status);
    CHECK(output.find(text) != std::string::npos);
    return output;
}

// What generate writes to standard output.
std::string generated(const std::string& arguments) {
    return check_run(tools + "generate " + arguments + " 2>/dev/null", 0, "");
}

// The most likely continuation as generate shows it, by a forward pass over the whole text for every token.
std::string greedy_text(const Transformer& model, const std::string& prompt, int64_t tokens) {
    const NoGrad guard;
    std::vector<int32_t> ids = tokenizer().encode(prompt);
    for (int64_t i = 0; i < tokens; ++i) {
        const auto T = static_cast<int64_t>(ids.size());
        const std::vector<float> last =
            model.forward(Tensor::from(ids, {1, T}), {}).logits.rows(T - 1, T).to_vector<float>();
        ids.push_back(static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin()));
    }
    Utf8Stream stream;
    std::string text = stream.push(tokenizer().decode(ids));
    return text + stream.finish() + "\n";
}

void check_same_bits(const NamedTensors& a, const NamedTensors& b) {
    REQUIRE(a.size() == b.size());
    for (size_t i = 0; i < a.size(); ++i) {
        CHECK(a[i].name == b[i].name);
        CHECK_MESSAGE(bit_identical(a[i].tensor, b[i].tensor), a[i].name);
    }
}

}  // namespace

TEST_CASE("generate: the text of greedy forward passes over everything, from any of the files") {
    for (const char* attention : {"classic", "sparse"}) {
        INFO(attention);
        const TemporaryFolder folder;
        const FinalModel model = random_model(attention, "deepseek");
        const std::string file = write_run(folder, model);
        write_model(folder / "model.safetensors", model);
        const std::string rest = " --prompt 'She had been' --max_new_tokens 40 --temperature 0 --threads 1";
        const std::string want = greedy_text(*model.model, "She had been", 40);
        CHECK(generated("--checkpoint " + folder.path().string() + rest) == want);
        CHECK(generated("--checkpoint " + file + rest) == want);
        CHECK(generated("--checkpoint " + (folder / "model.safetensors") + rest) == want);
    }
}

TEST_CASE("generate: a seed gives one text for any number of threads, another seed another") {
    const TemporaryFolder folder;
    const std::string file = write_run(folder, random_model("sparse"));
    const std::string command = "--checkpoint " + file + " --prompt 'Anne said' --max_new_tokens 30";
    const std::string text = generated(command + " --seed 7 --threads 1");
    CHECK(text.starts_with("Anne said"));
    CHECK(generated(command + " --seed 7 --threads 2") == text);
    CHECK(generated(command + " --seed 8") != text);
    check_run(tools + "generate " + command, 0, "then 30 tokens in ");
    check_run(tools + "generate " + command, 0,
              "trained on windows of 16 tokens; a longer text is new to it");
    check_run(tools + "generate " + command, 0, " tokens/s");
}

TEST_CASE("generate: many prompts side by side give the texts that each gives alone") {
    const TemporaryFolder folder;
    const std::string model = "--checkpoint " + write_run(folder, random_model("sparse", "deepseek")) +
                              " --max_new_tokens 25 --seed 3";
    const std::vector<std::string> prompts = {"She had been", "A", "Emma, and then some more words", "No",
                                              "It was"};
    std::string file;
    for (const std::string& prompt : prompts) file += prompt + "\n\n";  // empty lines are no prompts
    write_file_atomic(folder / "prompts.txt", file);
    for (const char* at_once : {"1", "2", "16"}) {
        std::string lines =
            generated(model + " --prompts " + (folder / "prompts.txt") + " --at_once " + at_once);
        CHECK(lines ==
              generated(model + " --prompts - < " + (folder / "prompts.txt") + " --at_once " + at_once));
        std::map<int64_t, nlohmann::json> by_line;
        std::istringstream stream(lines);
        for (std::string line; std::getline(stream, line);) {
            const auto json = nlohmann::json::parse(line);
            by_line[json["line"].get<int64_t>()] = json;
        }
        REQUIRE(by_line.size() == prompts.size());
        for (size_t i = 0; i < prompts.size(); ++i) {
            INFO(prompts[i] << ", " << at_once << " at once");
            const nlohmann::json& json = by_line.at(static_cast<int64_t>(2 * i + 1));
            CHECK(json["prompt"] == prompts[i]);
            CHECK(json["prompt"].get<std::string>() + json["text"].get<std::string>() + "\n" ==
                  generated(model + " --prompt '" + prompts[i] + "'"));
        }
    }
    check_run(tools + "generate " + model + " --prompts " + (folder / "prompts.txt"), 0, "5 texts, ");
    CHECK(generated(model + " < " + (folder / "prompts.txt")).starts_with("She had been\n\nA\n"));
}

TEST_CASE("generate: the text ends where the model ends it") {
    const TemporaryFolder folder;
    const FinalModel model = random_model("classic");
    for (const NamedTensor& p : model.model->parameters()) {
        const NoGrad guard;
        p.tensor.fill(0);  // all logits are 0: the first token, <|endoftext|>, is the most likely one
    }
    const std::string command =
        "--checkpoint " + write_run(folder, model) + " --prompt 'The end.' --temperature 0";
    CHECK(generated(command) == "The end.\n");
    check_run(tools + "generate " + command, 0, "then 0 tokens in ");
}

TEST_CASE("generate: bad input gets one clear line and the documented exit code") {
    const TemporaryFolder folder;
    const std::string file = write_run(folder, random_model("sparse"));
    const auto refuse = [&](const std::string& arguments, int status, const std::string& text) {
        const std::string output = check_run(tools + "generate " + arguments, status, text);
        CHECK_MESSAGE(std::count(output.begin(), output.end(), '\n') == 1, output);
    };
    const std::string model = "--checkpoint " + file;
    refuse(model + " < /dev/null", 2, "prompt: empty, and so is standard input");
    refuse(model + " --prompt ''", 2, "prompt: empty");
    refuse(model + " --prompt a --prompts " + file, 2, "prompt and prompts: give one text");
    refuse(model + " --prompts /nowhere.txt", 3, "/nowhere.txt: no such file");
    refuse(model + " --prompts - < /dev/null", 3, "-: holds no prompt; want one a line");
    refuse(model + " --prompts - --at_once 0", 2, "at_once: 0, want at least 1");
    refuse(model + " --prompt a --max_new_tokens 0", 2, "max_new_tokens: 0, want at least 1");
    refuse(model + " --prompt a --max_new_tokens -3", 2, "max_new_tokens: -3, want at least 1");
    refuse(model + " --prompt a --max_new_tokens many", 2, "max_new_tokens");
    refuse(model + " --prompt a --temperature -1", 2, "temperature: -1, want at least 0");
    refuse(model + " --prompt a --top_p 0", 2, "top_p: 0, want 0 < top_p <= 1");
    refuse(model + " --prompt a --top_p 1.1", 2, "top_p: 1.1, want 0 < top_p <= 1");
    refuse(model + " --prompt a --seed -1", 2, "seed: -1, want at least 0");
    refuse(model + " --prompt a --threads -1", 2, "threads: -1, want at least 0");
    refuse(model + " --promt a", 2, "did you mean --prompt?");
    refuse(model + " --prompt a --max_new_tokens 3 > /dev/full", 3, "standard output: cannot write");
}

TEST_CASE("evaluate: a model as it was trained, by other selectors, with other k and densely") {
    const TemporaryFolder folder;
    FinalModel model = random_model("sparse");
    model.config.data = source_dir() + "/data/excerpt", model.config.max_tokens = 20000;
    model.config.batch_size = 4;
    const std::string file = write_run(folder, model);
    model.config.cache_dir = folder / "cache";
    const std::string command = tools + "evaluate --checkpoint " + file + " --cache_dir " +
                                (folder / "cache") + " --eval_batches 2 --device cpu";
    check_run(
        command + " --eval_selector dense,indexer,recent --eval_top_k 0,3 --output " + (folder / "out.json"),
        0, "as trained");
    const Dataset data = data_of_model(model, file);
    const nlohmann::ordered_json readings = read_json(folder / "out.json").at("readings");
    REQUIRE(readings.size() == 5);
    size_t row = 0;
    for (const auto& [selector, k, shown, own] : {std::tuple{"dense", 0, "all", false},
                                                  {"indexer", 0, "6", true},
                                                  {"indexer", 3, "3", false},
                                                  {"recent", 0, "6", false},
                                                  {"recent", 3, "3", false}}) {
        INFO(std::string(selector) << " " << k);
        const auto& got = readings.at(row++);
        CHECK(got.at("selector") == selector);
        CHECK(got.at("top_k") == shown);
        CHECK(got.at("trained") == own);
        const Measurement want = evaluate(*read_by(*model.model, selector, k), data, 2);
        CHECK(std::abs(got.at("val_loss").get<double>() - want["val_loss"]) <= (sanitized ? 1e-4 : 0.0));
        CHECK(got.at("indexer_recall").is_null() == (std::string(selector) == "dense"));
    }
    check_run(command, 0, "sink_recent");  // all of them
    check_run(command + " --eval_selector nobody", 2, "eval_selector: 'nobody', want dense, indexer");
    check_run(command + " --eval_top_k -1", 2, "eval_top_k: -1, want at least 0 (the model's own)");
    check_run(command + " --eval_batches -1", 2, "eval_batches: -1, want at least 0 (all)");
}

TEST_CASE("model tools: what is no model is refused, whichever tool reads it") {
    const TemporaryFolder folder;
    const FinalModel model = random_model("sparse");
    fs::create_directories(folder.path() / "results/sparse");
    fs::create_directories(folder.path() / "empty");
    const std::string file = folder / "results/sparse/final_model.pt";
    write_model(file, model);
    write_model(folder / "x.safetensors", model);
    write_model(folder / "x.onnx", model);
    const std::string bytes = read_file(file), tensors = read_file(folder / "x.safetensors");
    write_file_atomic(folder / "short.pt", bytes.substr(0, bytes.size() / 2));
    write_file_atomic(folder / "short.safetensors", tensors.substr(0, tensors.size() / 2));
    write_file_atomic(folder / "text.pt", "no model");
    NamedTensors state = read_pt(file).tensors;
    write_pt(folder / "bare.pt", state);  // as torch.save(model.state_dict()) leaves it
    write_safetensors(folder / "bare.safetensors", state);
    write_pt(folder / "checkpoint.pt", state, {{"config.json", "{}"}, {"progress.json", "{}"}});
    state.pop_back();  // lm_head, which may be missing
    state.pop_back();
    write_pt(folder / "part.pt", state, read_pt(file).extra);

    const auto refuse = [&](const std::string& name, const std::string& text) {
        for (const char* rest :
             {"generate --prompt a --checkpoint ", "export_model --output /nowhere/x.pt --checkpoint "}) {
            const std::string output = check_run(tools + std::string(rest) + (folder / name), 3, text);
            CHECK_MESSAGE(std::count(output.begin(), output.end(), '\n') == 1, output);
            CHECK_MESSAGE(output.find(folder / name) != std::string::npos, output);
        }
    };
    refuse("missing", "no such file or folder; ./experiments/exp4 trains models");
    refuse("empty", "has no final_model.pt; a run writes it at its end");
    refuse("results", "did you mean " + (folder / "results/sparse") + "?");
    refuse("short.pt", "short.pt");
    refuse("short.safetensors", "short.safetensors");
    refuse("text.pt", "not a PyTorch zip checkpoint");
    refuse("bare.pt", "has no config.json; it was not written by this program");
    refuse("bare.safetensors", "has no config.json; it was not written by this program");
    refuse("checkpoint.pt", "the checkpoint of a run that was not finished");
    refuse("part.pt", "has no tensor norm.weight");
    refuse("x.onnx", "ONNX is written, not read");
}

TEST_CASE(
    "parity: tokens of any integer type give the same logits, and what is no token is refused by its place") {
    const TemporaryFolder folder;
    const FinalModel model = random_model("sparse");
    const std::string file = write_run(folder, model), tokens = folder / "t.npy";
    write_file_atomic(folder / "config.json", config_to_json(model.config).dump());
    const auto run = [&](const std::string& more, int status, const std::string& text) {
        check_run(tools + "parity --checkpoint " + file + " --config " + (folder / "config.json") +
                      " --tokens " + tokens + " --out " + (folder / "out") + more,
                  status, text);
    };
    write_npy(tokens, Tensor::from(std::vector<int32_t>{5, 250, 17, 0}, {1, 4}));
    run("", 0, "");
    const std::string want = read_file(folder / "out/logits.npy");
    for (const auto& [type, payload] :
         {std::pair{"<i8",
                    std::string("\5\0\0\0\0\0\0\0\xFA\0\0\0\0\0\0\0\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32)},
          std::pair{"<u2", std::string("\5\0\xFA\0\x11\0\0\0", 8)},
          std::pair{"|u1", std::string("\5\xFA\x11\0", 4)}}) {
        const std::string header =
            std::string("{'descr': '") + type + "', 'fortran_order': False, 'shape': (1, 4), }";
        write_file_atomic(tokens, std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size()) +
                                      '\0' + header + payload);
        run("", 0, "");
        CHECK(read_file(folder / "out/logits.npy") == want);
    }
    write_npy(tokens, Tensor::from(std::vector<int64_t>{5, 4294967301}, {1, 2}));
    run("", 3, "t.npy: token [0,1] is 4294967301, want 0 to 299: the vocabulary has 300");
    write_npy(tokens, Tensor::from(std::vector<float>{5, 1.5}, {1, 2}));
    run("", 3, "t.npy: its elements are '<f4' (floats), want whole numbers");
    write_npy(tokens, Tensor::from(std::vector<int32_t>{5, 6}, {1, 2}));
    write_npy(folder / "y.npy", Tensor::from(std::vector<int32_t>{6, 300}, {1, 2}));
    run(" --targets " + (folder / "y.npy"), 3, "y.npy: token [0,1] is 300");
    write_npy(folder / "y.npy", Tensor::from(std::vector<int32_t>{6, 7, 8}, {1, 3}));
    run(" --targets " + (folder / "y.npy"), 3, "y.npy: shape [1,3], want that of the tokens, [1,2]");
    write_file_atomic(folder / "config.json",
                      "{\"d_model\": 4611686018427387904, \"n_heads\": 4611686018427387904}");
    run("", 3, "config.json: d_model: 4611686018427387904, want at most");
}

TEST_CASE(
    "model tools: weights that are not finite, or differ where they are tied, are refused by every tool") {
    const TemporaryFolder folder;
    const FinalModel model = random_model("sparse");
    const std::string file = write_run(folder, model);
    write_model(folder / "good.safetensors", model);
    const PtFile good = read_pt(file);
    const auto write_changed = [&](const std::string& name,
                                   const std::function<void(NamedTensors&)>& change) {
        NamedTensors state = good.tensors;
        for (NamedTensor& t : state) t.tensor = t.tensor.clone();
        change(state);
        write_pt(folder / (name + ".pt"), state, good.extra);
        write_safetensors(folder / (name + ".safetensors"), state, good.extra);
    };
    write_changed("nan", [](NamedTensors& state) { state[1].tensor.data<float>()[4] = NAN; });
    write_changed("inf", [](NamedTensors& state) { state[2].tensor.data<float>()[37] = -INFINITY; });
    write_changed("untied", [](NamedTensors& state) { state.back().tensor.data<float>()[33] += 1; });
    write_file_atomic(folder / "config.json", good.extra.at("config.json"));
    write_npy(folder / "tokens.npy", Tensor::zeros({1, 4}, DType::int32));

    const auto refuse = [&](const std::string& name, const std::string& text) {
        std::vector<std::string> commands = {
            "visualize " + (folder / (name + ".pt")) + " --text a --out " + (folder / "out"),
            "parity --config " + (folder / "config.json") + " --tokens " + (folder / "tokens.npy") +
                " --out " + (folder / "out") + " --checkpoint " + (folder / (name + ".pt"))};
        for (const char* ending : {".pt", ".safetensors"})
            for (const char* rest :
                 {"generate --prompt a --checkpoint ", "export_model --output /nowhere/x.pt --checkpoint "})
                commands.push_back(rest + (folder / (name + ending)));
        for (const std::string& command : commands) {
            const std::string output = check_run(tools + command, 3, name);
            CHECK_MESSAGE(output.find(text) != std::string::npos, output);
            CHECK_MESSAGE(std::count(output.begin(), output.end(), '\n') == 1, output);
        }
    };
    refuse("nan", ": " + good.tensors[1].name + "[4] is nan; a model with such a weight cannot be used");
    refuse("inf", ": " + good.tensors[2].name + "[1,5] is -inf; a model with such a weight cannot be used");
    refuse("untied",
           ": embed.weight and lm_head.weight are one tensor in this model (tied weights) but differ, first "
           "in embed.weight[1,1]: ");
    // Cloned, and so untied in the file, but equal.
    write_changed("equal", [](NamedTensors&) {});
    check_run(tools + "export_model --checkpoint " + (folder / "equal.safetensors") + " --output " +
                  (folder / "x.pt"),
              0, "wrote");
    CHECK(read_file(folder / "x.pt") == read_file(file));
}

TEST_CASE("model tools: a config that describes a far larger model is refused before it takes memory") {
    const TemporaryFolder folder;
    const std::string file = write_run(folder, random_model("sparse"));
    PtFile parts = read_pt(file);
    std::string& config = parts.extra.at("config.json");
    const std::string key = "\"d_ff\": 24";
    REQUIRE(config.find(key) != std::string::npos);
    config.replace(config.find(key), key.size(), "\"d_ff\": 1000000");
    write_pt(file, parts.tensors, parts.extra);
    release_cached_memory();
    const int64_t before = memory_stats().live_bytes;
    reset_peak_memory();
    try {
        read_model(file);
        FAIL("nothing was thrown");
    } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::bad_file);
        CHECK(std::string(e.what()).find("final_model.pt: its config.json describes a model of 3840") !=
              std::string::npos);
    }
    CHECK(memory_stats().peak_bytes - before < 1 << 20);
}

TEST_CASE("export_model: through safetensors and back, the very bytes that a run left") {
    for (const char* attention : {"classic", "sparse"}) {
        const TemporaryFolder folder;
        const std::string file = write_run(folder, random_model(attention, "deepseek"));
        const auto convert = [&](const std::string& from, const std::string& to) {
            check_run(tools + "export_model --checkpoint " + from + " --output " + to, 0,
                      "wrote " + to + ": " + attention + " model, ");
        };
        convert(folder.path().string(), folder / "a.safetensors");
        convert(folder / "a.safetensors", folder / "b.pt");
        convert(folder / "b.pt", folder / "c.safetensors");
        CHECK(read_file(folder / "b.pt") == read_file(file));
        CHECK(read_file(folder / "c.safetensors") == read_file(folder / "a.safetensors"));
        const SafetensorsFile tensors = read_safetensors(folder / "a.safetensors");
        check_same_bits(tensors.tensors, read_pt(file).tensors);
        CHECK(tensors.metadata.at("format") == "pt");
        CHECK(tensors.metadata.at("config.json") == read_pt(file).extra.at("config.json"));
        CHECK(tensors.metadata.at("tokenizer.json") == tokenizer().to_json());
    }
}

TEST_CASE("export_model: an output stays as it was unless a whole new one takes its place") {
    const TemporaryFolder folder;
    const std::string file = write_run(folder, random_model("sparse"));
    const std::string bytes = read_file(file);
    write_file_atomic(folder / "short.pt", bytes.substr(0, bytes.size() / 2));
    for (const char* name : {"x.onnx", "x.safetensors", "x.pt"}) {
        write_file_atomic(folder / name, "old");
        check_run(
            tools + "export_model --checkpoint " + (folder / "short.pt") + " --output " + (folder / name), 3,
            "short.pt");
        CHECK(read_file(folder / name) == "old");
        check_run(tools + "export_model --checkpoint " + file + " --output " + (folder / name), 0, "wrote");
        CHECK(read_file(folder / name).size() > 10000);
    }
    size_t files = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder.path())) ++files;
    CHECK(files == 5);  // nothing temporary is left
}

TEST_CASE("export_model: bad input gets one clear line and the documented exit code") {
    const TemporaryFolder folder;
    const std::string model = "--checkpoint " + write_run(folder, random_model("sparse"));
    fs::create_directories(folder.path() / "folder.pt");
    const auto refuse = [&](const std::string& arguments, int status, const std::string& text) {
        const std::string output = check_run(tools + "export_model " + arguments, status, text);
        CHECK_MESSAGE(std::count(output.begin(), output.end(), '\n') == 1, output);
    };
    refuse(model, 2, "output: empty; which file?");
    for (const char* name : {"model.h5", "model", "model.onnx.gz"})
        refuse(model + " --output " + name, 2,
               std::string("'") + name +
                   "': want a name that ends in .onnx, .safetensors, .pt or / (a Hugging Face folder)");
    for (const char* name : {"/nowhere/x.onnx", "/nowhere/x.safetensors", "/nowhere/x.pt"})
        refuse(model + " --output " + name, 3, std::string(name) + ": cannot write");
    refuse(model + " --output " + (folder / "folder.pt"), 3, "folder.pt: cannot write");
    refuse(model + " --ouput x.pt", 2, "did you mean --output?");
    refuse(model + " --output " + (folder / "hf/"), 2,
           "hf: no Hugging Face folder describes this model: attention_type is mha, want mla; ffn is silu");
    refuse(model + " --output x.pt --dtype bf16", 2, "dtype, max_shard_mb: are of Hugging Face folders");
    CHECK(!fs::exists(folder / "hf"));
}

TEST_CASE("model tools: --help has headings, every option and its default") {
    for (const char* text :
         {"Text:", "Model:", "Sampling:", "Running:", "--prompt", "--max_new_tokens INT=200",
          "--checkpoint TEXT=results/sparse", "--temperature FLOAT=0.8", "--top_p FLOAT=0.95",
          "--seed INT=42", "--threads INT=0", "Exit codes"})
        check_run(tools + "generate --help", 0, text);
    for (const char* text : {"Files:", "--checkpoint TEXT=results/sparse", "--output", ".onnx", "Exit codes"})
        check_run(tools + "export_model --help", 0, text);
}

TEST_CASE("export_model: the safetensors package reads the file") {
    const auto python = python_with("safetensors.numpy, numpy");
    if (!python) return skip("no Python with safetensors (.ci/run makes one)");
    const TemporaryFolder folder;
    const FinalModel model = random_model("sparse");
    write_model(folder / "m.safetensors", model);
    std::string output;
    const int status = run_python(
        *python,
        "import json\n"
        "from safetensors import safe_open\n"
        "with safe_open('m.safetensors', 'np') as f:\n"
        "    m = f.metadata()\n"
        "    assert m['format'] == 'pt' and json.loads(m['tokenizer.json'])['model']['type'] == 'BPE'\n"
        "    assert json.loads(m['config.json'])['d_model'] == 32\n"
        "    total = sum(f.get_tensor(k).astype('f8').sum() for k in f.keys())\n"
        "    print(len(list(f.keys())), f.get_tensor('embed.weight').shape, repr(float(total)))\n",
        folder.path().string(), output);
    INFO(output);
    REQUIRE(status == 0);
    double total = 0;
    for (const NamedTensor& p : model.model->state())
        for (const float x : p.tensor.to_vector<float>()) total += static_cast<double>(x);
    std::istringstream words(output);
    size_t count = 0;
    std::string rows, columns;
    double theirs = 0;
    words >> count >> rows >> columns >> theirs;
    CHECK(count == model.model->state().size());
    CHECK(columns == "32)");
    CHECK(std::abs(theirs - total) < 1e-6);
}

TEST_CASE(
    "the original's leak: no text and no file is made of a model that leaks, and its numbers come with a "
    "note") {
    const TemporaryFolder folder;
    FinalModel model = random_model("sparse");
    model.config.model.leaks = true;
    const std::string file = write_run(folder, model),
                      leaks = ": this model leaks: by i_know_this_leaks its first";
    check_run(tools + "generate --checkpoint " + file + " --prompt 'She had'", 2,
              "when a text is written" + leaks);
    for (const char* name : {"model.onnx", "model.pt", "model.safetensors"}) {
        check_run(tools + "export_model --checkpoint " + file + " --output " + (folder / name), 2,
                  "another program would not know it" + leaks);
        CHECK(!fs::exists(folder / name));
    }
    check_run(tools + "visualize --text 'She had been' --out " + (folder / "pictures") + " " + file, 0,
              "note: this model leaks");
    check_run(tools + "profile_efficiency --i_know_this_leaks", 2, "i_know_this_leaks");
}
