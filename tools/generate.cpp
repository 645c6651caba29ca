// generate: continues a text with a trained model, token by token.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>

#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/data/tokenizer.h"
#include "framework/data/utf8_stream.h"
#include "framework/program/command_line.h"
#include "framework/program/interrupt.h"
#include "framework/train/model_file.h"
#include "models/decoder.h"
#include "models/sampling.h"

namespace sieve {
namespace {

using Clock = std::chrono::steady_clock;

struct Arguments {
    std::string checkpoint = "results/sparse", prompt;
    int64_t max_new_tokens = 200, threads = 0, seed = 42;
    Sampling sampling;
};

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

void show(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
        fail_bad_file("standard output: cannot write");
}

// A model may have more tokens than its tokenizer, as those of Hugging Face folders often do.
Tokenizer tokenizer_of(const FinalModel& trained, const std::string& path) {
    Tokenizer tokenizer = tokenizer_of_model(trained, path);
    if (tokenizer.vocab_size() > trained.config.model.vocab_size)
        fail_bad_file(fmt::format("{}: its tokenizer has {} tokens, its model {}", path,
                                  tokenizer.vocab_size(), trained.config.model.vocab_size));
    return tokenizer;
}

// Draws and shows tokens until the text ends, max_new_tokens are there, or a signal arrives. Returns how many
// were shown.
int64_t continue_text(const Arguments& a, const Tokenizer& tokenizer, Decoder& decoder, Tensor logits,
                      Utf8Stream& stream) {
    const int32_t end = tokenizer.added_token_id(end_of_text);
    for (int64_t i = 0;; ++i) {
        // Of the tokens that the tokenizer knows.
        const Tensor known = logits.alias({logits.numel()}).rows(0, tokenizer.vocab_size());
        const int32_t token = sample_token(known, a.sampling, static_cast<uint64_t>(i));
        if (token == end) return i;
        show(stream.push(tokenizer.token_bytes(token)));
        if (i + 1 == a.max_new_tokens || interrupted()) return i + 1;
        logits = decoder.read({&token, 1});
    }
}

int run(const Arguments& a) {
    const FinalModel trained = read_model(a.checkpoint);
    refuse_leak(a.checkpoint + ": what it reads ahead is not there when a text is written", trained);
    const Tokenizer tokenizer = tokenizer_of(trained, a.checkpoint);
    const std::vector<int32_t> prompt = tokenizer.encode(a.prompt);
    const auto length = static_cast<int64_t>(prompt.size());
    if (length + a.max_new_tokens > trained.config.model.max_seq_len)
        fmt::print(stderr,
                   "note: this model was trained on windows of {} tokens; a longer text is new to it\n",
                   trained.config.model.max_seq_len);
    catch_interrupts();

    Decoder decoder(*trained.model);
    Utf8Stream stream;
    show(stream.push(a.prompt));
    const auto start = Clock::now();
    const Tensor logits = decoder.read(prompt);
    const double prompt_seconds = seconds_since(start);
    const auto generation = Clock::now();
    const int64_t shown = continue_text(a, tokenizer, decoder, logits, stream);
    const double seconds = seconds_since(generation);
    show(stream.finish() + "\n");
    fmt::print(stderr, "prompt: {} tokens in {:.2f} s; then {} tokens in {:.2f} s, {:.0f} tokens/s\n", length,
               prompt_seconds, shown, seconds, static_cast<double>(shown) / std::max(seconds, 1e-9));
    return interrupted();
}

void check(const Arguments& a) {
    if (a.prompt.empty())
        fail_usage("prompt: empty; give some text to go on from, as in --prompt \"It was\"");
    if (a.max_new_tokens < 1)
        fail_usage(fmt::format("max_new_tokens: {}, want at least 1", a.max_new_tokens));
    if (a.threads < 0) fail_usage(fmt::format("threads: {}, want at least 0", a.threads));
    if (a.seed < 0) fail_usage(fmt::format("seed: {}, want at least 0", a.seed));
    validate(a.sampling);
}

int main_of(int argc, char** argv) {
    Arguments a;
    ToolCommand command(
        "generate",
        "Continues a text with a trained model, token by token. Text goes to standard output as "
        "it comes, the speed to standard error. The same command gives the same text again.");
    command.group("Text");
    command.option("prompt", a.prompt, "the text to continue (required)");
    command.option("max_new_tokens", a.max_new_tokens,
                   "how many tokens to add at most; the text ends earlier where the model ends it");
    command.group("Model");
    command.option(
        "checkpoint", a.checkpoint,
        "a folder of results, a .pt or .safetensors file of a trained model, or a Hugging Face folder");
    command.group("Sampling");
    command.option("temperature", a.sampling.temperature,
                   "below 1 favours likely tokens; 0: always the most likely one");
    command.option("top_p", a.sampling.top_p,
                   "draw from the fewest most likely tokens of this share of the probability; 1: from all");
    command.option("seed", a.seed, "of the draws");
    command.group("Running");
    command.option("threads", a.threads, "0: the cores that other programs leave free");
    if (!command.parse(argc, argv)) return 0;
    check(a);
    a.sampling.seed = static_cast<uint64_t>(a.seed);
    if (a.threads) set_thread_count(a.threads);
    return run(a);
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    const sieve::SizeFlags flags{{sieve::SizeKind::length, "--max_new_tokens"}};
    return sieve::run_program("generate", flags, [&] { return sieve::main_of(argc, argv); });
}
