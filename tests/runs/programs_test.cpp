// The programs as a user meets them: exit codes, one clear line for bad input, files that appear whole.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "framework/core/cuda/runtime.h"
#include "framework/core/version.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

const std::string root = testing::source_dir();
const std::vector<const char*> programs{
    "/experiments/exp4",     "/experiments/claims",  "/experiments/exp3",        "/tools/visualize",
    "/tools/parity",         "/tools/bench",         "/tools/generate",          "/tools/export_model",
    "/tools/ablation_study", "/tools/bench_kernels", "/tools/profile_efficiency"};
const std::string tiny =
    " --preset small --d_model 32 --n_heads 2 --n_layers 2 --d_ff 32 --max_seq_len 24 --batch_size 4 "
    "--indexer_dim 8 "
    "--sparse_top_k 8 --vocab_size 300 --max_tokens 20000 --classic_steps 12 --warmup_steps 3 --sparse_steps "
    "12 "
    "--eval_every 6 --eval_batches 1 --checkpoint_every 2 --device cpu --threads 1";

std::string exp4(const std::string& results, const std::string& more = "") {
    return root + "/experiments/exp4" + tiny + " --data " + root + "/data/excerpt --cache_dir " + results +
           "-cache --results_dir " + results + " " + more;
}

// Runs and checks the exit code and that the output holds `text`.
void check_run(const std::string& command, int status, const std::string& text) {
    std::string output;
    INFO(command);
    const int got = run_command(command, output);
    INFO(output);
    CHECK(got == status);
    CHECK(output.find(text) != std::string::npos);
}

const std::vector<std::string> every_file = {"classic/metrics.jsonl",
                                             "classic/metrics.csv",
                                             "sparse/metrics.jsonl",
                                             "sparse/metrics.csv",
                                             "classic/training_results.json",
                                             "classic/training_curves.png",
                                             "classic/final_model.pt",
                                             "classic/config.json",
                                             "sparse/training_results.json",
                                             "sparse/training_curves.png",
                                             "sparse/final_model.pt",
                                             "sparse/config.json",
                                             "classic/manifest.json",
                                             "sparse/manifest.json",
                                             "classic/checkpoint.pt",
                                             "sparse/checkpoint.pt",
                                             "classic/best_model.pt",
                                             "sparse/best_model.pt",
                                             "comparison/comparison_metrics.json",
                                             "comparison/performance_comparison.png",
                                             "comparison/attention_pattern_layer0.png",
                                             "comparison/indexer_heads_layer0.png",
                                             "comparison/attention_pattern_layer1.png",
                                             "comparison/attention_statistics.png",
                                             "comparison/attention_statistics.json",
                                             "comparison/report.html"};

}  // namespace

TEST_CASE("exp4: a whole small run writes every file, and visualize redraws from them") {
    const TemporaryFolder folder;
    const std::string results = folder / "results";
    check_run(exp4(results), 0, "criteria of the original experiment");
    for (const std::string& file : every_file)
        CHECK_MESSAGE((fs::exists(results + "/" + file) && fs::file_size(results + "/" + file) > 100), file);
    for (const char* part : {"/classic", "/sparse", "/comparison"}) {
        CHECK(!fs::exists(results + part + "/unfinished"));
        CHECK(!fs::exists(results + part + "/.lock"));
    }

    const auto sparse = read_json(results + "/sparse/training_results.json");
    for (const char* key : {"steps", "train_loss", "val_loss", "val_accuracy", "val_perplexity",
                            "val_bits_per_byte", "time_per_step", "indexer_kl", "indexer_recall"})
        CHECK_MESSAGE(sparse.at(key).size() == 2, key);
    for (const char* key : {"avg_time_per_step", "total_time", "peak_memory_bytes", "sparsity"})
        CHECK_MESSAGE(sparse.contains(key), key);
    CHECK(sparse.at("warmup_results").at("indexer_loss").size() == 3);
    CHECK(!sparse.contains("indexer_precision_recall"));
    const auto metrics = read_json(results + "/comparison/comparison_metrics.json");
    for (const char* key : {"performance", "efficiency", "sparsity", "config", "success_criteria"})
        CHECK_MESSAGE(metrics.contains(key), key);

    check_run(root + "/tools/visualize " + results + "/sparse --layer all --out " + (folder / "drawn"), 0,
              "attention_pattern_layer1.png");
    check_run(root + "/tools/visualize " + results + "/classic --out " + (folder / "classic"), 0,
              "no indexer");
    const std::string page = read_file(results + "/comparison/report.html");
    CHECK(page.find("not complete") == std::string::npos);
    check_run(root + "/tools/visualize " + results + " --report", 0,
              "wrote " + results + "/comparison/report.html");
    CHECK(read_file(results + "/comparison/report.html") == page);
    check_run(exp4(results, "--resume"), 0, "classic was finished by an earlier run and is kept");
}

TEST_CASE("exp4: a model of all variants is trained, described, drawn and kept") {
    const TemporaryFolder folder;
    const std::string results = folder / "results";
    const std::string variants =
        "--attention_type mla --q_lora_rank 16 --kv_lora_rank 16 --qk_nope_head_dim 8 --qk_rope_head_dim 4 "
        "--v_head_dim 8 --indexer deepseek --ffn swiglu --router sigmoid_bias --shared_experts 1 "
        "--sparse_top_k 8,4 --indexer_precision fp8 ";
    std::string output;
    REQUIRE(run_command(exp4(results, variants), output) == 0);
    for (const char* text :
         {"attention   mla, 2 heads of 8 + 4 (rotated), latent 16, query latent 16, values of 8",
          "experts     swiglu, sigmoid_bias router, 1 shared by all tokens", "top 8,4 tokens", "\n    KL ",
          "\n  indexer in fp8: KL ", ", recall of float32's keys 0.", " (chance 0."})
        CHECK_MESSAGE(output.find(text) != std::string::npos, output);
    const auto config = read_json(results + "/sparse/config.json");
    CHECK(config.at("sparse_top_k").dump() == "[8,4]");
    CHECK(config.at("router") == "sigmoid_bias");
    CHECK(read_json(results + "/sparse/training_results.json").at("indexer_precision_recall").size() == 2);
    const std::string page = folder / "page.md";
    write_file_atomic(page, "<!-- precision -->\n<!-- /precision -->\n");
    check_run(root + "/tools/bench indexer --steps 1 --checkpoint " + results +
                  "/sparse/final_model.pt --text 'In the beginning God created the heaven' --markdown " +
                  page,
              0, "layer 1, ");
    CHECK(read_file(page).find("<!-- precision -->\n| layer | tokens | precision |") == 0);
    check_run(
        root + "/tools/bench indexer --steps 1 --checkpoint " + results + "/sparse/final_model.pt --text a",
        2, "text: 1 token, want more than top_k 4; give a longer text or a smaller --top_k");
    check_run(root + "/tools/bench indexer --markdown " + folder.path().string() + "/none.md", 3, "none.md");
    check_run(root + "/tools/visualize " + results + "/sparse --layer all --out " + (folder / "drawn"), 0,
              "attention_pattern_layer1.png");
    check_run(exp4(results, variants + "--resume"), 0, "sparse was finished by an earlier run and is kept");
    check_run(exp4(results, "--attention_type gqa --n_kv_heads 1 --stages classic"), 0,
              "attention   gqa, 2 query heads over 1 key and value heads");
}

TEST_CASE("exp4: interrupted and resumed, it ends with the bits of an undisturbed run") {
    const TemporaryFolder folder;
    const std::string whole = folder / "whole", stopped = folder / "stopped";
    const std::string longer = "--stages classic --classic_steps 60";
    check_run(exp4(whole, longer), 0, "classic 60/60");
    // timeout sends SIGINT after a moment, as Ctrl-C would.
    std::string output;
    const std::string& command = exp4(stopped, longer);
    int status = run_command("timeout -s INT 1 " + command, output);
    for (int tries = 0; status != 0 && tries < 100; ++tries) {
        INFO(output);
        REQUIRE((status == 130 || status == 124));
        status = run_command("timeout -s INT 1 " + command + " --resume", output);
    }
    REQUIRE(status == 0);
    CHECK(read_json(whole + "/classic/training_results.json").at("step_loss") ==
          read_json(stopped + "/classic/training_results.json").at("step_loss"));
    for (const std::string& results : {whole, stopped}) {
        const std::string log = read_file(results + "/classic/metrics.csv");
        CHECK(std::count(log.begin(), log.end(), '\n') == 61);  // a header and each step once
    }
}

TEST_CASE("exp4: bad input gets one clear line and the documented exit code") {
    const TemporaryFolder folder;
    const std::string results = folder / "results";
    check_run(exp4(results, "--sparse_topk 3"), 2, "did you mean --sparse_top_k?");
    check_run(exp4(results, "--d_model 31"), 2, "not divisible by n_heads");
    check_run(exp4(results, "--expert_top_k 9"), 2, "more than num_experts");
    check_run(exp4(results, "--attention_type mha2"), 2, "attention_type: 'mha2', want mha, gqa or mla");
    check_run(exp4(results, "--attention_type gqa --n_kv_heads 3"), 2,
              "n_kv_heads: 3 does not divide n_heads 2");
    check_run(exp4(results, "--sparse_top_k 8,4,2"), 2, "3 numbers (8,4,2) for n_layers 2");
    check_run(exp4(results, "--sparse_top_k 0"), 2, "sparse_top_k: 0, want at least 1");
    check_run(exp4(results, "--d_model wide"), 2, "d_model");
    check_run(exp4(results, "--data /nowhere/text.txt"), 3, "/nowhere/text.txt");
    check_run(exp4(results, "--tokenizer /nowhere/tokenizer.json"), 3, "/nowhere/tokenizer.json");
    check_run(exp4(results, "--config /nowhere/c.toml"), 3, "/nowhere/c.toml");
    if (!cuda::available()) {
        const std::string reason = cuda::why_unavailable();
        check_run(exp4(results, "--device cuda"), 2,
                  "exp4: device: cuda is not available: " + reason + "; use --device cpu");
        check_run(exp4(results, "--device auto --stages compare"), 3,
                  "device: running on the CPU: " + reason);
    }
    check_run(exp4(results, "--device cpu --precision tf32"), 2, "precision: tf32 needs a CUDA device");
    check_run(exp4(results, "--precision fp8"), 2, "precision: 'fp8', want auto, fp32, tf32 or bf16");
    write_file_atomic(folder / "empty.txt", "");
    check_run(exp4(results, "--data " + (folder / "empty.txt")), 3, "empty");
    write_file_atomic(folder / "short.txt", "A few words.");
    check_run(exp4(results, "--data " + (folder / "short.txt")), 3, "(--max_seq_len)");
    write_file_atomic(folder / "binary.txt", std::string(5000, '\0'));
    check_run(exp4(results, "--data " + (folder / "binary.txt")), 3, "binary");
    write_file_atomic(folder / "tokenizer.json", "{\"model\": 3}");
    check_run(exp4(results, "--tokenizer " + (folder / "tokenizer.json")), 3, "tokenizer.json");
    write_file_atomic(folder / "file", "x");
    check_run(exp4(folder / "file"), 3, "file");
    check_run(exp4(results, "--stages compare"), 3, "run --stages classic first");
    check_run(exp4(results, "--stages sparse --sparse_init classic"), 3, "needs the trained classic model");
    check_run(exp4(results, "--memory_limit_mb 1 --batch_size 64"), 5,
              "the length of the sequences (--batch_size or --max_seq_len)");
    check_run(exp4(results, "--learning_rate 1e30 --grad_clip 1e30 --stages classic"), 4, "diverged");
    CHECK(!fs::exists(results + "/classic/final_model.pt"));
}

TEST_CASE("exp4: bad input leaves earlier results untouched") {
    const TemporaryFolder folder;
    const std::string results = folder / "results";
    check_run(exp4(results, "--stages classic"), 0, "classic 12/12");
    const std::string before = read_file(results + "/classic/final_model.pt");
    check_run(exp4(results, "--stages classic --data /nowhere"), 3, "/nowhere");
    check_run(exp4(results, "--stages classic --learning_rate 1e30 --grad_clip 1e30"), 4, "diverged");
    CHECK(read_file(results + "/classic/final_model.pt") == before);

    write_file_atomic(results + "/classic/checkpoint.pt", before.substr(0, before.size() / 2));
    check_run(exp4(results, "--stages classic --resume --classic_steps 24"), 3, "checkpoint.pt");
    CHECK(read_file(results + "/classic/final_model.pt") == before);
}

namespace {

// Checks the exit code, and that stderr holds one line, with `text` in it, beside that on the device; all in
// no time.
void check_refused(const std::string& command, int status, const std::string& text) {
    std::string output;
    INFO(command);
    const auto start = std::chrono::steady_clock::now();
    CHECK(run_command(command + " > /dev/null", output) == status);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    INFO(output);
    if (output.starts_with("device: ")) output.erase(0, output.find('\n') + 1);
    CHECK(output.find(text) != std::string::npos);
    CHECK(std::count(output.begin(), output.end(), '\n') == 1);
    CHECK(seconds < 5);  // it is milliseconds, on a quiet machine
}

}  // namespace

TEST_CASE("programs: sizes that no machine has are refused at once, with one line") {
    const TemporaryFolder folder;
    const std::string results = folder / "results";
    for (const auto& [flags, message] : std::vector<std::pair<std::string, std::string>>{
             {"--d_ff 2305843009213693952", "exp4: d_ff: 2305843009213693952, want at most"},
             {"--indexer_heads 4611686018427387904",
              "exp4: indexer_heads: 4611686018427387904, want at most"},
             {"--shared_experts 4611686018427387904",
              "exp4: shared_experts: 4611686018427387904, want at most"},
             {"--n_layers 100000000", "exp4: n_layers: 100000000, want at most"},
             {"--threads 4294967297", "exp4: threads: 4294967297, want at most"},
             {"--d_model 99999999999", "exp4: d_model: 99999999999, want at most"},
             {"--vocab_size 99999999999", "exp4: vocab_size: 99999999999, want at most"},
             {"--seed 9223372036854775807", "exp4: seed: 9223372036854775807, want at most"},
             {"--d_model 16777216", "exp4: the model would have "}})
        check_refused(exp4(results, flags), 2, message);
    check_refused(exp4(results, "--n_layers 60000 --d_model 1024 --d_ff 1024"), 5,
                  "exp4: out of memory: the ");
    const std::string study = root + "/tools/ablation_study --preset small --results_dir " + results;
    check_refused(study + " --vary d_ff --values 64,2305843009213693952", 2,
                  "ablation_study: d_ff: 2305843009213693952, want at most");
    check_refused(study + " --vary rope_base --values 100,inf", 2,
                  "ablation_study: rope_base: inf, want a finite number");
    check_refused(study + " --vary d_ff --values 64 --seeds 9000000000000000000", 2,
                  "seeds: 9000000000000000000");
    check_refused(study + " --vary d_ff --values 64,abc", 2,
                  "ablation_study: d_ff: 'abc', want a whole number");
    check_refused(root + "/experiments/exp3 --preset small --search_steps 9000000000000000000", 2,
                  "search_steps: 9000000000000000000");
    check_refused(root + "/tools/bench step --seq_len 4611686018427387904", 2,
                  "bench: max_seq_len: 4611686018427387904");
    check_refused(root + "/tools/bench gemm --threads 4294967297", 2,
                  "bench: threads: 4294967297; want 1 to 1024");
    check_refused(root + "/tools/generate --prompt a --max_new_tokens abc", 2,
                  "generate: max_new_tokens: 'abc', want a whole number");
    CHECK(!fs::exists(results));
}

TEST_CASE("programs: what cannot be printed ends with exit 3 and one line") {
    const std::string full = "standard output: cannot write";
    for (const char* program : programs) {
        check_run(root + program + " --help > /dev/full", 3, full);
        check_run(root + program + " --help >&-", 3,
                  "standard output: closed; send it to a file or to /dev/null");
        check_run(root + program + " --help 2>&- <&-", 0, "Exit codes");
    }
    const TemporaryFolder folder;
    const std::string results = folder / "results";
    check_run(exp4(results, "--stages classic > /dev/full"), 3, "exp4: standard output: cannot write");
    check_run(exp4(results, "--stages classic >&-"), 3, "exp4: standard output: closed");
    // A limit on the size of files is an error of the write like any other.
    check_run("ulimit -f 8; " + exp4(folder / "limited", "--stages classic"), 3,
              ": cannot write: File too large");
}

TEST_CASE("programs: --print_config is a --config, and a TOML file is read strictly") {
    const TemporaryFolder folder;
    const std::string program = root + "/experiments/exp4", file = folder / "c.toml";
    std::string first, second;
    const std::string odd =
        " --preset small --data \"a 'b' # c\" --grad_clip inf --sparse_top_k 1,2,3,4 --stages compare "
        "--init_std 5e-324 --tensorboard --cache_dir ''";
    REQUIRE(run_command(program + odd + " --print_config", first) == 0);
    write_file_atomic(file, first);
    REQUIRE(run_command(program + " --config " + file + " --print_config", second) == 0);
    CHECK(first == second);
    CHECK(first.find("grad_clip = inf  #") != std::string::npos);
    write_file_atomic(file, "seed = 1\n[model]\nd_model = 64\n");
    check_run(program + " --config " + file, 3,
              file + ":2: section [model]: keys stand at the top level here; remove the line");
    write_file_atomic(file, "seed = 1\nd_model 64\n");
    check_run(program + " --config " + file, 3, file + ":2:9: ");
    write_file_atomic(file, "x = " + std::string(100000, '['));
    check_run(program + " --config " + file, 3, "nested more than 16 deep");
    check_run("echo 'd_model = 64' | " + program + " --config /dev/stdin --print_config", 0, "d_model = 64 ");
}

TEST_CASE("exp4: losses whose perplexity is infinite are trained, saved, resumed, compared and drawn") {
    const TemporaryFolder folder;
    const std::string results = folder / "results";
    const std::string huge = "--init_std 100 --learning_rate 1e-9 --grad_clip inf";
    std::string output;
    int status = run_command(
        "timeout -s INT 0.3 " + exp4(results, huge + " --classic_steps 60 --stages classic"), output);
    for (int tries = 0; status != 0 && tries < 100; ++tries) {
        INFO(output);
        REQUIRE((status == 130 || status == 124));
        status = run_command(
            "timeout -s INT 1 " + exp4(results, huge + " --classic_steps 60 --stages classic --resume"),
            output);
    }
    REQUIRE(status == 0);
    check_run(exp4(results, huge + " --stages sparse,compare"), 0,
              "validation perplexity             inf          inf");
    const auto classic = read_json(results + "/classic/training_results.json");
    CHECK(classic.at("val_perplexity").back() == "inf");
    CHECK(number_in(classic.at("val_loss").back()).value() > 710);
    CHECK(read_json(results + "/classic/config.json").at("grad_clip") == "inf");
    const auto metrics = read_json(results + "/comparison/comparison_metrics.json");
    CHECK(metrics.at("performance").at("sparse").at("val_perplexity") == "inf");
    CHECK(metrics.at("performance").at("difference").at("val_perplexity") == "nan");
    CHECK(read_file(results + "/sparse/metrics.jsonl").find("\"val_perplexity\": \"inf\"") !=
          std::string::npos);
    check_run(root + "/tools/visualize " + results + " --report", 0, "report.html");
    check_run(exp4(results, huge + " --classic_steps 60 --stages classic --resume"), 0,
              "finished by an earlier run");
    // 526 nats: a number of 228 digits.
    check_run(exp4(folder / "wide", "--init_std 30 --learning_rate 1e-9 --stages classic"), 0, "| val ");
    const auto wide =
        read_json((folder / "wide") + "/classic/training_results.json").at("val_perplexity").back();
    REQUIRE(wide.is_number());
    CHECK(wide.get<double>() > 1e100);
}

TEST_CASE("exp4: data that was skipped, packed or broken is named") {
    const TemporaryFolder folder;
    const std::string results = folder / "results", data = folder / "data";
    fs::create_directories(data);
    fs::copy_file(root + "/data/excerpt/persuasion.txt", data + "/a.txt");
    write_file_atomic(data + "/b.jsonl", "{\"text\": \"one more document\"}\n");
    write_file_atomic(data + "/c.csv.gz", "\x1F\x8B\x08");
    check_run(exp4(results, "--stages classic --data " + data), 0,
              data +
                  ": only .txt, .md and .jsonl files are read, and .gz and .zst of them, not 1 other file, "
                  "such as c.csv.gz; unpack "
                  "what is compressed");
    check_run(exp4(results, "--stages classic --data " + data + "/c.csv.gz"), 3,
              "c.csv.gz: its gzip data end too early; is the file whole?");
    write_file_atomic(data + "/b.jsonl", "{\"text\": \"one more document\"}\n{\"tekst\": 1}\n");
    check_run(exp4(results, "--stages classic --data " + data), 3,
              "b.jsonl:2: has no text under the key \"text\"");
    check_run("ulimit -v 700000; yes words | " + exp4(results, "--stages classic --data /dev/stdin"), 5,
              "exp4: /dev/stdin: a text of ");
}

// The variable hides the processor's instructions: what a machine without them does.
TEST_CASE("exp4: bf16 on a processor without instructions for it says once that it brings no speed") {
    const TemporaryFolder folder;
    const std::string results = folder / "results", no_speed = "which brings no speed";
    std::string output;
    CHECK(run_command("SIEVE_BF16=float32 " + exp4(results, "--precision bf16"), output) == 0);
    INFO(output);
    const size_t said =
        output.find("precision: no AVX512_BF16 and no AMX here: bf16 is computed by rounding, then float32");
    REQUIRE(said != std::string::npos);
    CHECK(output.find(no_speed, output.find(no_speed) + 1) == std::string::npos);
    const auto session = read_json(results + "/classic/manifest.json").at("sessions").at(0);
    CHECK(session.at("precision") == "bf16");
    CHECK(session.at("kernels").get<std::string>().find("own kernels, bf16 by rounding, then float32") == 0);

    // auto takes float32 there, and says nothing.
    const std::string exact = folder / "exact";
    CHECK(run_command("SIEVE_BF16=float32 " + exp4(exact, "--precision auto --stages classic"), output) == 0);
    CHECK(output.find(no_speed) == std::string::npos);
    CHECK(read_json(exact + "/classic/training_results.json").at("precision") == "fp32");
    check_run("SIEVE_BF16=avx " + exp4(exact, "--precision bf16 --stages classic"), 2,
              "SIEVE_BF16: 'avx', want amx, avx512_bf16 or float32");
}

TEST_CASE("tools: usage errors") {
    check_run(root + "/tools/visualize", 2, "results/sparse");
    check_run(root + "/tools/visualize /nowhere", 3, "/nowhere/final_model.pt");
    check_run(root + "/tools/parity", 2, "--checkpoint is required");
    check_run(root + "/tools/bench walk", 2,
              "'walk', want step, gemm, scaling, indexer, decode, data, start or evaluate");
    check_run(root + "/tools/bench step --preste small", 2, "did you mean --preset?");
    check_run(root + "/tools/bench step --tokens t.npy", 2, "--tokens and --targets go together");
    check_run(root + "/tools/bench step --optimizer sgd", 2, "optimizer: 'sgd', want muon or adamw");
    check_run(root + "/tools/bench step --preset small --checkpoint /nowhere.pt", 3, "/nowhere.pt");
    check_run(root + "/tools/visualize ''", 2,
              "results: empty; leave it out, or is a variable in the command not set?");
    check_run(root + "/tools/export_model --output ''", 2, "output: empty; leave it out");
    check_run(root + "/tools/export_model --output a.pt --output b.h5", 2, "'b.h5'");
}

TEST_CASE("programs: --help and --version") {
    const Version built = version();
    for (const char* program : programs) {
        check_run(root + program + " --help", 0, "Exit codes");
        check_run(root + program + " --version", 0,
                  fmt::format("sieve {} ({}), with", built.number, built.commit));
    }
}
