// The command line of profile_efficiency.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

#include "framework/core/available_memory.h"
#include "framework/core/cuda/runtime.h"
#include "framework/core/error.h"
#include "framework/measure/efficiency.h"
#include "framework/program/command_line.h"
#include "framework/program/prepare_machine.h"

namespace sieve {
namespace {

constexpr const char* description =
    "Times the classic and the sparse model beside each other by sequence length: when is sparse attention\n"
    "faster, by how much, where does the time go, and what do the FLOPs allow?\n"
    "  profile_efficiency --seq_lengths 128,512,2048,8192 --top_k 256\n"
    "Variants take turns step by step. Writes efficiency.json, efficiency.csv and efficiency.png.";

void refuse_repeated(const std::string& key, const std::string& list, std::vector<std::string> items) {
    std::sort(items.begin(), items.end());
    const auto again = std::adjacent_find(items.begin(), items.end());
    if (again != items.end()) fail_usage(fmt::format("{}: '{}', {} appears twice", key, list, *again));
}

std::vector<int64_t> parse_lengths(const std::string& list) {
    std::vector<int64_t> lengths;
    for (const std::string& item : split_names(list)) {
        int64_t length = 0;
        const char* const end = item.data() + item.size();
        const auto parsed = std::from_chars(item.data(), end, length);
        if (parsed.ec != std::errc() || parsed.ptr != end || length < 1 || length > 1 << 24)
            fail_usage(fmt::format("seq_lengths: '{}', want whole numbers of at least 1, separated by commas",
                                   list));
        lengths.push_back(length);
    }
    refuse_repeated("seq_lengths", list, split_names(list));
    std::sort(lengths.begin(), lengths.end());
    return lengths;
}

// A list of names, in the order of their table.
template <NamedEnum Enum>
std::vector<Enum> parse_names(const std::string& key, const std::string& list) {
    std::vector<Enum> chosen = from_names<Enum>(key, list);
    refuse_repeated(key, list, split_names(list));
    std::sort(chosen.begin(), chosen.end());
    return chosen;
}

// "8G", "512M", "1.5G", or bytes.
int64_t parse_bytes(const std::string& key, const std::string& text) {
    double value = 0;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    const std::string unit(parsed.ptr, end);
    const std::string units = "KMGT";
    const bool known = unit.empty() || (unit.size() == 1 && units.find(unit[0]) != std::string::npos);
    if (parsed.ec != std::errc() || !known || !(value > 0 && value < 1e15))
        fail_usage(fmt::format("{}: '{}', want a size such as 512M or 8G", key, text));
    const size_t power = unit.empty() ? 0 : units.find(unit[0]) + 1;
    return static_cast<int64_t>(value * static_cast<double>(int64_t{1} << (10 * power)));
}

// What may be used without the system running out: nine tenths of what is free.
int64_t usable_memory(Device device) {
    return (device.is_cpu() ? available_memory() : cuda::device_info().total_bytes) / 10 * 9;
}

// The model's own keys, which all variants share; seq_lengths and top_k take the place of two of them.
void declare_model_keys(ToolCommand& command, ExperimentConfig& config) {
    for (const ConfigKey& key : config_keys(config)) {
        const std::string name = key.name;
        if (!key.is(KeyNature::model) || name == "max_seq_len" || name == "sparse_top_k") continue;
        if (name == "i_know_this_leaks") continue;  // its steps are nothing to be fast in
        command.group(key.group);
        command.option(name, key.value, key.help);
    }
}

void require_at_least(const char* key, int64_t value, int64_t least) {
    if (value < least) fail_usage(fmt::format("{}: {}, want at least {}", key, value, least));
}

}  // namespace

std::optional<EfficiencyPlan> parse_efficiency(int argc, char** argv) {
    EfficiencyPlan plan;
    ExperimentConfig& config = plan.base;
    apply_preset(config, find_preset(argc, argv, config.preset));
    plan.tokens_per_step = config.batch_size * config.model.max_seq_len;
    plan.top_k = config.model.sparse_top_k.of(0);
    std::string lengths = "128,256,512,1024,2048,4096", variants = "classic,materialised,sparse";
    std::string stages = "forward,train", limit;
    plan.folder = "results/efficiency";

    ToolCommand command("profile_efficiency", description);
    command.group("Start here");
    command.option("preset", config.preset,
                   "small, medium, large or long: sets the defaults of the other flags");
    command.option("seq_lengths", lengths, "tokens in a window, separated by commas");
    command.option("top_k", plan.top_k, "selected tokens of each query");
    command.option("top_k_ratio", plan.top_k_ratio,
                   "in place of top_k: selected tokens as a share of the length");
    command.option("tokens_per_step", plan.tokens_per_step,
                   "windows per step are this by the length, at least one");
    command.option("variants", variants,
                   "of classic (dense attention in tiles), materialised (with stored T x T scores, as the "
                   "original computed it) and sparse (with indexer, selection and alignment loss)");
    command.option("stages", stages,
                   "of forward (an evaluation's, with all losses) and train (a whole step)");
    command.option("out", plan.folder, "folder for the results");
    command.option("markdown", plan.markdown,
                   "write the tables between this file's <!-- efficiency --> and <!-- parts --> markers");
    command.group("Measuring");
    command.option("steps", plan.steps, "timed steps");
    command.option("untimed_steps", plan.untimed_steps, "steps before those (on a GPU at least 3)");
    command.option("part_steps", plan.part_steps, "further steps, whose time by part is measured; 0: none");
    command.option("memory_limit", limit,
                   "skip what needs more tensor memory, such as 8G; without it nine tenths of what is free");
    command.group("Running");
    command.option("device", config.device, "auto, cpu or cuda");
    command.option("precision", config.precision,
                   "of matrix products, and on a GPU of attention: auto, fp32, tf32 or bf16");
    command.option("threads", config.threads, "0: all cores");
    command.option("seed", config.seed, "of weights and dropout");
    declare_model_keys(command, config);
    if (!command.parse(argc, argv)) return std::nullopt;

    if (command.given("top_k") && command.given("top_k_ratio"))
        fail_usage("top_k and top_k_ratio exclude each other; give one of them");
    if (command.given("top_k_ratio") && !(plan.top_k_ratio > 0 && plan.top_k_ratio <= 1))
        fail_usage(fmt::format("top_k_ratio: {}, want more than 0 and at most 1", plan.top_k_ratio));
    require_at_least("top_k", plan.top_k, 1);
    require_at_least("tokens_per_step", plan.tokens_per_step, 1);
    require_at_least("steps", plan.steps, 1);
    require_at_least("untimed_steps", plan.untimed_steps, 0);
    require_at_least("part_steps", plan.part_steps, 0);
    plan.lengths = parse_lengths(lengths);
    plan.variants = parse_names<AttentionVariant>("variants", variants);
    plan.stages = parse_names<StepKind>("stages", stages);
    if (plan.folder.empty()) fail_usage("out: empty, want a folder");
    for (const AttentionVariant variant : plan.variants)
        for (const int64_t length : plan.lengths) validate(plan.config_of(variant, length));
    if (!limit.empty()) plan.memory_limit = parse_bytes("memory_limit", limit);
    plan.device = prepare_machine(config);
    if (limit.empty()) plan.memory_limit = usable_memory(plan.device);
    if (!plan.device.is_cpu()) plan.untimed_steps = std::max<int64_t>(plan.untimed_steps, 3);
    return plan;
}

}  // namespace sieve
