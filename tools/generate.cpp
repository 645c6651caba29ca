// generate: continues texts with a trained model, token by token: one, one after the other as they are typed, or many
// side by side.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <deque>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "framework/core/error.h"
#include "framework/core/threads.h"
#include "framework/data/tokenizer.h"
#include "framework/data/utf8_stream.h"
#include "framework/program/command_line.h"
#include "framework/program/config.h"
#include "framework/program/device.h"
#include "framework/program/interrupt.h"
#include "framework/train/model_file.h"
#include "models/decoder.h"
#include "models/sampling.h"

namespace sieve {
namespace {

using Clock = std::chrono::steady_clock;

struct Arguments {
    std::string checkpoint = "results/sparse", prompt, prompts;
    int64_t max_new_tokens = 200, at_once = 16, threads = 0, seed = 42;
    PrecisionChoice precision = PrecisionChoice::fp32;
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

struct Model {
    FinalModel trained;
    Tokenizer tokenizer;
    int32_t end;  // the token that ends a text

    explicit Model(const Arguments& a)
        : trained(read_model(a.checkpoint)),
          tokenizer(tokenizer_of(trained, a.checkpoint)),
          end(tokenizer.added_token_id(end_of_text)) {
        refuse_leak(a.checkpoint + ": what it reads ahead is not there when a text is written", trained);
    }
};

void note_length(const Model& model, int64_t tokens) {
    if (tokens <= model.trained.config.model.max_seq_len) return;
    static bool said = false;
    if (!said)
        fmt::print(stderr,
                   "note: this model was trained on windows of {} tokens; a longer text is new to it\n",
                   model.trained.config.model.max_seq_len);
    said = true;
}

// Of the tokens that the tokenizer knows: the i-th that is drawn for a text.
int32_t next_token(const Arguments& a, const Model& model, const Tensor& logits, int64_t i) {
    const Tensor known = logits.alias({logits.numel()}).rows(0, model.tokenizer.vocab_size());
    return sample_token(known, a.sampling, static_cast<uint64_t>(i));
}

// Draws and shows tokens until the text ends, max_new_tokens are there, or a signal arrives. Returns how many
// were shown.
int64_t continue_text(const Arguments& a, const Model& model, Decoder& decoder, Tensor logits,
                      Utf8Stream& stream) {
    for (int64_t i = 0;; ++i) {
        const int32_t token = next_token(a, model, logits, i);
        if (token == model.end) return i;
        show(stream.push(model.tokenizer.token_bytes(token)));
        if (i + 1 == a.max_new_tokens || interrupted()) return i + 1;
        logits = decoder.read({&token, 1});
    }
}

// Shows a prompt and what follows it.
void write_on(const Arguments& a, const Model& model, Decoder& decoder, const std::string& text) {
    const std::vector<int32_t> prompt = model.tokenizer.encode(text);
    const auto length = static_cast<int64_t>(prompt.size());
    note_length(model, length + a.max_new_tokens);
    decoder.clear(0);
    Utf8Stream stream;
    show(stream.push(text));
    const auto start = Clock::now();
    const Tensor logits = decoder.read(prompt);
    const double prompt_seconds = seconds_since(start);
    const auto generation = Clock::now();
    const int64_t shown = continue_text(a, model, decoder, logits, stream);
    const double seconds = seconds_since(generation);
    show(stream.finish() + "\n");
    fmt::print(stderr, "prompt: {} tokens in {:.2f} s; then {} tokens in {:.2f} s, {:.0f} tokens/s\n", length,
               prompt_seconds, shown, seconds, static_cast<double>(shown) / std::max(seconds, 1e-9));
}

// A line is a prompt, until the input ends.
void write_on_lines(const Arguments& a, const Model& model, Decoder& decoder) {
    fmt::print(stderr, "Type a text to continue; ctrl-D ends.\n");
    for (std::string line; !interrupted() && (fmt::print(stderr, "> "), std::getline(std::cin, line));)
        if (!line.empty()) write_on(a, model, decoder, line);
    fmt::print(stderr, "\n");
}

// One of many prompts, and what was written of its continuation.
struct Request {
    int64_t number;  // its line
    std::string prompt, text{};
    int64_t tokens = 0;
    Utf8Stream stream{};
};

std::deque<Request> read_requests(const std::string& path) {
    std::ifstream file;
    if (path != "-") {
        file.open(path);
        if (!file) fail_bad_file(path + ": no such file, or it cannot be read");
    }
    std::deque<Request> requests;
    int64_t number = 0;
    for (std::string line; std::getline(path == "-" ? std::cin : file, line);)
        if (++number, !line.empty()) requests.push_back({.number = number, .prompt = line});
    if (requests.empty()) fail_bad_file(path + ": holds no prompt; want one a line");
    return requests;
}

// Prompts that are continued side by side: a place each, taken by the next prompt when a text has ended.
class ManyTexts {
  public:
    ManyTexts(const Arguments& a, const Model& model, std::deque<Request> waiting)
        : a_(a),
          model_(model),
          waiting_(std::move(waiting)),
          running_(std::min(static_cast<size_t>(a.at_once), waiting_.size())),
          next_(running_.size()),
          decoder_(*model.trained.model, {}, std::ssize(running_)) {}

    void run() {
        const auto start = Clock::now();
        for (;;) {
            for (size_t place = 0; place < running_.size(); ++place)
                while (!running_[place] && !waiting_.empty() && !interrupted()) begin(place);
            if (!step()) break;
        }
        const double seconds = seconds_since(start);
        fmt::print(stderr, "{} texts, {} new tokens in {:.2f} s, {:.0f} tokens/s\n", texts_, tokens_, seconds,
                   static_cast<double>(tokens_) / std::max(seconds, 1e-9));
    }

  private:
    void begin(size_t place) {
        running_[place] = std::make_unique<Request>(std::move(waiting_.front()));
        waiting_.pop_front();
        const std::vector<int32_t> prompt = model_.tokenizer.encode(running_[place]->prompt);
        note_length(model_, std::ssize(prompt) + a_.max_new_tokens);
        const auto text = static_cast<int64_t>(place);
        decoder_.clear(text);
        take(place, decoder_.read(prompt, text));
    }

    // The next token of a text, by its logits [V]; it is read in the next step unless the text has ended.
    void take(size_t place, const Tensor& logits) {
        Request& request = *running_[place];
        const int32_t token = next_token(a_, model_, logits, request.tokens);
        if (token == model_.end) return finish(place);
        request.text += request.stream.push(model_.tokenizer.token_bytes(token));
        if (++request.tokens == a_.max_new_tokens || interrupted()) return finish(place);
        next_[place] = token;
    }

    void finish(size_t place) {
        Request& request = *running_[place];
        request.text += request.stream.finish();
        const nlohmann::ordered_json line{{"line", request.number},
                                          {"prompt", request.prompt},
                                          {"text", request.text},
                                          {"tokens", request.tokens}};
        show(line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
        ++texts_;
        tokens_ += request.tokens;
        running_[place].reset();
    }

    // One more token of every text that goes on; false when none does.
    bool step() {
        std::vector<int64_t> texts;
        std::vector<int32_t> tokens;
        for (size_t place = 0; place < running_.size(); ++place) {
            if (!running_[place]) continue;
            texts.push_back(static_cast<int64_t>(place));
            tokens.push_back(next_[place]);
        }
        if (texts.empty()) return false;
        const Tensor logits = decoder_.read_one_each(texts, tokens);
        for (size_t i = 0; i < texts.size(); ++i) {
            const auto row = static_cast<int64_t>(i);
            take(static_cast<size_t>(texts[i]), logits.rows(row, row + 1).alias({logits.dim(1)}));
        }
        return true;
    }

    const Arguments& a_;
    const Model& model_;
    std::deque<Request> waiting_;
    std::vector<std::unique_ptr<Request>> running_;
    std::vector<int32_t> next_;  // of each place that runs: the token that is to be read
    Decoder decoder_;
    int64_t texts_ = 0, tokens_ = 0;
};

int run(const Arguments& a) {
    const Model model(a);
    catch_interrupts();
    if (!a.prompts.empty()) {
        ManyTexts(a, model, read_requests(a.prompts)).run();
        return interrupted();
    }
    Decoder decoder(*model.trained.model);
    if (!a.prompt.empty())
        write_on(a, model, decoder, a.prompt);
    else if (isatty(STDIN_FILENO))
        write_on_lines(a, model, decoder);
    else {
        const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
        if (text.empty())
            fail_usage(
                "prompt: empty, and so is standard input; give some text to go on from, as in --prompt "
                "\"It was\"");
        write_on(a, model, decoder, text);
    }
    return interrupted();
}

void check(const Arguments& a) {
    if (!a.prompt.empty() && !a.prompts.empty())
        fail_usage("prompt and prompts: give one text, or a file with one a line, not both");
    if (a.at_once < 1) fail_usage(fmt::format("at_once: {}, want at least 1", a.at_once));
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
        "Continues texts with a trained model, token by token. Text goes to standard output as it comes, the "
        "speed to standard error. The same command gives the same text again. Without --prompt and --prompts "
        "it continues what it reads from standard input: on a terminal line by line, else all of it.");
    command.group("Text");
    command.option("prompt", a.prompt, "the text to continue");
    command.option(
        "prompts", a.prompts,
        "a file with a prompt a line (-: standard input): a line of JSON for each, as they end, with the "
        "text that --prompt gives");
    command.option("at_once", a.at_once, "of --prompts: how many are continued side by side");
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
    command.option("precision", a.precision,
                   "of matrix products: fp32, bf16 (half the bytes a token, other roundings) or auto");
    if (!command.parse(argc, argv)) return 0;
    check(a);
    a.sampling.seed = static_cast<uint64_t>(a.seed);
    if (a.threads) set_thread_count(a.threads);
    ExperimentConfig machine;
    machine.device = DeviceChoice::cpu, machine.precision = a.precision;
    choose_device(machine);
    return run(a);
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    const sieve::SizeFlags flags{{sieve::SizeKind::length, "--max_new_tokens"}};
    return sieve::run_program("generate", flags, [&] { return sieve::main_of(argc, argv); });
}
