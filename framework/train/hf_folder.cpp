#include "framework/train/hf_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/core/error.h"
#include "framework/data/tokenizer.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/io/safetensors_folder.h"
#include "framework/program/hf_config.h"
#include "models/parameter_count.h"

namespace sieve {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// ---- names

struct NamePair {
    const char *ours, *theirs;
};
// Of whole tensors.
constexpr NamePair outer_names[] = {{"embed.weight", "model.embed_tokens.weight"},
                                    {"norm.weight", "model.norm.weight"},
                                    {"lm_head.weight", "lm_head.weight"}};
// Of the parts of a layer, behind "blocks.L." and "model.layers.L."; # stands for the number of an expert.
constexpr NamePair layer_names[] = {
    {"norm1", "input_layernorm"},
    {"norm2", "post_attention_layernorm"},
    {"attention.q_proj", "self_attn.q_proj"},
    {"attention.q_a_proj", "self_attn.q_a_proj"},
    {"attention.q_a_layernorm", "self_attn.q_a_layernorm"},
    {"attention.q_b_proj", "self_attn.q_b_proj"},
    {"attention.kv_a_proj_with_mqa", "self_attn.kv_a_proj_with_mqa"},
    {"attention.kv_a_layernorm", "self_attn.kv_a_layernorm"},
    {"attention.kv_b_proj", "self_attn.kv_b_proj"},
    {"attention.w_o", "self_attn.o_proj"},
    {"attention.indexer.q_proj", "self_attn.indexer.wq_b"},
    {"attention.indexer.k_proj", "self_attn.indexer.wk"},
    {"attention.indexer.k_norm", "self_attn.indexer.k_norm"},
    {"attention.indexer.w_proj", "self_attn.indexer.weights_proj"},
    {"feed_forward.router.gate", "mlp.gate"},
    {"feed_forward.experts.#.linear1", "mlp.experts.#.gate_proj"},
    {"feed_forward.experts.#.linear3", "mlp.experts.#.up_proj"},
    {"feed_forward.experts.#.linear2", "mlp.experts.#.down_proj"},
    {"feed_forward.shared_experts.linear1", "mlp.shared_experts.gate_proj"},
    {"feed_forward.shared_experts.linear3", "mlp.shared_experts.up_proj"},
    {"feed_forward.shared_experts.linear2", "mlp.shared_experts.down_proj"},
    {"feed_forward.linear1", "mlp.gate_proj"},
    {"feed_forward.linear3", "mlp.up_proj"},
    {"feed_forward.linear2", "mlp.down_proj"},
};

// The digits of a text from `at` on.
std::string digits_at(const std::string& text, size_t at) {
    const size_t end = std::min(text.find_first_not_of("0123456789", at), text.size());
    return text.substr(at, end - at);
}

// "blocks.3.feed_forward.experts.7.linear1.weight" in its pieces; an expert of -1: not of an expert.
struct OurName {
    int64_t layer = -1, expert = -1;
    std::string part, leaf;  // "feed_forward.experts.#.linear1", "weight"
};

OurName parse_name(const std::string& name) {
    static const std::string blocks = "blocks.", experts = "experts.";
    if (!name.starts_with(blocks)) return {.part = name};
    const std::string layer = digits_at(name, blocks.size());
    const size_t begin = blocks.size() + layer.size() + 1, dot = name.rfind('.');
    OurName parsed{
        .layer = std::stoll(layer), .part = name.substr(begin, dot - begin), .leaf = name.substr(dot + 1)};
    // Not that of shared_experts, which has no number.
    const size_t at = parsed.part.find("." + experts);
    if (at == std::string::npos) return parsed;
    const std::string number = digits_at(parsed.part, at + 1 + experts.size());
    parsed.expert = std::stoll(number);
    parsed.part.replace(at + 1 + experts.size(), number.size(), "#");
    return parsed;
}

const char* theirs_of(const OurName& name) {
    for (const NamePair& pair : outer_names)
        if (name.layer < 0 && name.part == pair.ours) return pair.theirs;
    for (const NamePair& pair : layer_names)
        if (name.layer >= 0 && name.part == pair.ours) return pair.theirs;
    return nullptr;
}

std::string layer_prefix(int64_t layer) {
    return fmt::format("model.layers.{}.", layer);
}

// The name of one of a model's tensors in their files.
std::string hf_name(const std::string& ours) {
    const OurName name = parse_name(ours);
    const char* theirs = theirs_of(name);
    if (!theirs) fail(fmt::format("hf_name: {} has no name in a Hugging Face folder", ours));
    if (name.layer < 0) return theirs;
    std::string part = theirs;
    if (name.expert >= 0) part.replace(part.find('#'), 1, std::to_string(name.expert));
    return layer_prefix(name.layer) + part + "." + name.leaf;
}

// ---- reading

constexpr const char* scale_ending = "_scale_inv";
constexpr int64_t block = 128;  // rows and columns that share a scale

// Where the elements of one of a model's tensors lie.
struct Source {
    std::string name;       // of their tensor
    int64_t first = 0;      // element of that
    NamedTensor into = {};  // ours
};

// "a, b, c, ..." and what all of them begin with.
std::string listed(const std::vector<std::string>& names) {
    constexpr size_t most = 3;
    std::string text;
    for (size_t i = 0; i < names.size() && i < most; ++i) text += (i ? ", " : "") + shortened(names[i]);
    if (names.size() > most) text += ", ...";
    const auto [least, greatest] = std::minmax_element(names.begin(), names.end());
    const auto differ = std::mismatch(least->begin(), least->end(), greatest->begin(), greatest->end());
    const std::string common(least->begin(), differ.first);
    const size_t dot = common.rfind('.');
    if (names.size() == 1 || dot == std::string::npos) return text;
    return fmt::format("{} (all begin with {})", text, shortened(common.substr(0, dot + 1)));
}

std::string tensors_text(size_t count) {
    return fmt::format("{} tensor{}", count, count == 1 ? "" : "s");
}

// The layer of "model.layers.L.rest", -1 for other names.
int64_t layer_of(const std::string& name) {
    static const std::string prefix = "model.layers.";
    if (!name.starts_with(prefix)) return -1;
    const std::string layer = digits_at(name, prefix.size());
    constexpr size_t most = 9;  // digits: more is no number of a layer
    return layer.empty() || layer.size() > most ? -1 : std::stoll(layer);
}

bool is_indexer_tensor(const std::string& name) {
    return name.find(".self_attn.indexer.") != std::string::npos;
}

// A model's tensors and those of a folder, matched by their names and shapes.
class WeightPlan {
  public:
    WeightPlan(const SafetensorsFolder& files, const std::string& folder, const Transformer& model)
        : files_(files), folder_(folder), config_(model.config()) {
        for (const std::string& name : files.names()) unused_.insert(name);
        has_indexers_ = std::any_of(unused_.begin(), unused_.end(), is_indexer_tensor);
        for (const NamedTensor& t : model.state()) match(t);
        leave_out();
        refuse_what_does_not_fit();
    }

    void load() const {
        for (const std::string& note : notes_) fmt::print(stderr, "note: {}: {}\n", folder_, note);
        for (const Source& source : sources_) read(source);
        compare_tied();
    }

  private:
    [[noreturn]] void refuse_shape(const std::string& name, const Shape& is, const Shape& want) const {
        fail_bad_file(fmt::format("{}: {} is {}, want {}; does config.json belong to it?", folder_,
                                  shortened(name), to_string(is), to_string(want)));
    }

    void match(const NamedTensor& t) {
        const bool tied = t.name == "lm_head.weight" && config_.tie_embeddings;
        const std::string name = hf_name(t.name);
        if (const StoredTensor* stored = files_.find(name)) {
            if (stored->shape != t.tensor.shape()) refuse_shape(name, stored->shape, t.tensor.shape());
            if (tied)
                tied_head_ = {name, 0, t};
            else
                sources_.push_back({name, 0, t});
            use(*stored);
        } else if (is_indexer_parameter(t.name) && !has_indexers_) {
            new_indexers_ = true;
        } else if (!tied && !match_fused(t)) {
            missing_.push_back(name);
        }
    }

    // One expert of a tensor that holds all of its layer: gate_up_proj [E,2f,d], the gate's rows first, or
    // down_proj [E,d,f].
    bool match_fused(const NamedTensor& t) {
        const OurName name = parse_name(t.name);
        if (name.expert < 0) return false;
        const bool down = name.part.ends_with("linear2"), up = name.part.ends_with("linear3");
        const std::string fused =
            layer_prefix(name.layer) + "mlp.experts." + (down ? "down_proj" : "gate_up_proj");
        const StoredTensor* stored = files_.find(fused);
        if (!stored) return false;
        const int64_t rows = t.tensor.dim(0), columns = t.tensor.dim(1), parts = down ? 1 : 2;
        const Shape want{config_.num_experts, parts * rows, columns};
        if (stored->shape != want) refuse_shape(fused, stored->shape, want);
        sources_.push_back({fused, (parts * name.expert + (up ? 1 : 0)) * rows * columns, t});
        use(*stored);
        return true;
    }

    void use(const StoredTensor& stored) {
        unused_.erase(stored.name);
        if (stored.dtype != "F8_E4M3") return;
        const std::string scales = stored.name + scale_ending;
        const StoredTensor* found = files_.find(scales);
        if (!found)
            fail_bad_file(
                fmt::format("{}: {} is FP8, but there is no {}, by which its blocks of {} x {} are "
                            "multiplied",
                            folder_, shortened(stored.name), shortened(scales), block, block));
        const int rank = stored.shape.rank();
        if (rank < 2)
            fail_bad_file(fmt::format("{}: {} is FP8 and {}, want a matrix", folder_, shortened(stored.name),
                                      to_string(stored.shape)));
        const auto blocks = [](int64_t size) { return (size + block - 1) / block; };
        Shape want;
        for (int i = 0; i < rank; ++i)
            want.append(i < rank - 2 ? stored.shape.dim(i) : blocks(stored.shape.dim(i)));
        if (found->shape != want) refuse_shape(scales, found->shape, want);
        unused_.erase(scales);
    }

    // What is in the files and not in the model, on purpose.
    void leave_out() {
        std::set<int64_t> layers;
        std::vector<std::string> prediction, indexers;
        for (const std::string& name : unused_) {
            const int64_t layer = layer_of(name);
            if (layer >= config_.n_layers) {
                prediction.push_back(name);
                layers.insert(layer);
            } else if (is_indexer_tensor(name) &&
                       !(config_.is_sparse() && !config_.shares_index(std::max<int64_t>(layer, 0)))) {
                indexers.push_back(name);
            } else if (name.ends_with(".rotary_emb.inv_freq") || files_.find(name)->shape.numel() == 0) {
                silent_.push_back(name);  // what older programs left, and experts of no width
            }
        }
        for (const auto* names : {&prediction, &indexers, &silent_})
            for (const std::string& name : *names) unused_.erase(name);
        if (!prediction.empty())
            notes_.push_back(fmt::format(
                "{} of layer{} {} behind the last are left out (multi-token prediction)",
                tensors_text(prediction.size()), layers.size() == 1 ? "" : "s from", *layers.begin()));
        if (!indexers.empty())
            notes_.push_back(fmt::format("{} of indexers are left out, which this {} model does not have",
                                         tensors_text(indexers.size()), name_of(config_.attention)));
        if (new_indexers_) notes_.emplace_back("has no indexers: this model's begin with random weights");
    }

    void refuse_what_does_not_fit() const {
        std::string text;
        if (!missing_.empty())
            text = fmt::format("{} missing that config.json asks for: {}",
                               tensors_text(missing_.size()) + (missing_.size() == 1 ? " is" : " are"),
                               listed(missing_));
        if (!unused_.empty())
            text += fmt::format("{}{} of no such model: {}", text.empty() ? "" : "; and there ",
                                (text.empty()          ? "holds "
                                 : unused_.size() == 1 ? "is "
                                                       : "are ") +
                                    tensors_text(unused_.size()),
                                listed({unused_.begin(), unused_.end()}));
        if (!text.empty()) fail_bad_file(folder_ + ": " + text);
    }

    Tensor read_floats(const std::string& name, int64_t first, const Shape& shape) const {
        const Tensor values = Tensor::empty(shape);
        read_into(name, first, values);
        return values;
    }

    void read_into(const std::string& name, int64_t first, const Tensor& values) const {
        const std::span<float> into(values.data<float>(), static_cast<size_t>(values.numel()));
        files_.read(name, first, into);
        const StoredTensor& stored = *files_.find(name);
        if (stored.dtype == "F8_E4M3") scale_blocks(stored, first, into);
    }

    void scale_blocks(const StoredTensor& stored, int64_t first, std::span<float> values) const {
        const std::string scales = stored.name + scale_ending;
        const Shape& shape = files_.find(scales)->shape;
        const Tensor factors = read_floats(scales, 0, shape);
        const int64_t rows = stored.shape.dim(-2), columns = stored.shape.dim(-1), across = shape.dim(-1);
        const float* factor = factors.data<float>();
        for (size_t i = 0; i < values.size(); ++i) {
            const int64_t at = first + static_cast<int64_t>(i), row = at / columns, column = at % columns;
            const int64_t block_row = row / rows * shape.dim(-2) + row % rows / block;
            values[i] *= factor[block_row * across + column / block];
        }
    }

    void read(const Source& source) const {
        const Tensor& into = source.into.tensor;
        const bool direct = into.dtype() == DType::float32 && into.device().is_cpu();
        const Tensor values = direct ? into.detach() : Tensor::empty(into.shape());
        read_into(source.name, source.first, values);
        refuse_non_finite({source.name, values}, folder_);
        if (!direct) into.copy_from(values);
    }

    void compare_tied() const {
        if (tied_head_.name.empty()) return;
        const Tensor head = read_floats(tied_head_.name, 0, tied_head_.into.tensor.shape());
        const Tensor embedding = tied_head_.into.tensor.to(Device{}).to(DType::float32);
        refuse_difference({hf_name("embed.weight"), embedding}, {tied_head_.name, head}, folder_);
    }

    const SafetensorsFolder& files_;
    const std::string& folder_;
    const ModelConfig& config_;
    std::set<std::string> unused_;
    std::vector<std::string> missing_, silent_, notes_;
    std::vector<Source> sources_;
    Source tied_head_;
    bool has_indexers_ = false, new_indexers_ = false;
};

SafetensorsFolder open_weights(const std::string& folder) {
    if (!has_safetensors_weights(folder))
        fail_bad_file(
            fmt::format("{}: has a config.json, but neither {} nor {}; other formats of weights are not read",
                        folder, weights_file, weights_index_file));
    return SafetensorsFolder(folder);
}

// A config.json of hostile sizes must not make a model that is much larger than the weights; what is missing of
// one of about their size, the plan names. An expert of one element has its modules as well.
void check_size(const ModelConfig& config, const SafetensorsFolder& files, const std::string& folder) {
    constexpr uint64_t harmless = 1 << 22;
    constexpr int64_t harmless_tensors = 100'000, per_layer = 24;
    const auto parameters = static_cast<uint64_t>(parameter_count(config).total());
    const int64_t tensors = config.expert_layers() * 3 * config.num_experts + config.n_layers * per_layer;
    if (parameters > files.elements() + harmless ||
        (tensors > harmless_tensors && static_cast<uint64_t>(tensors) > files.elements()))
        fail_bad_file(
            fmt::format("{}: its config.json describes a model of {} parameters, its weights have {}; "
                        "does the config belong to them?",
                        folder, parameters, files.elements()));
}

}  // namespace

bool is_hf_folder(const std::string& path) {
    return fs::is_directory(path) && fs::exists(fs::path(path) / "config.json") &&
           !fs::exists(fs::path(path) / "final_model.pt");
}

FinalModel read_hf_folder(const std::string& folder) {
    FinalModel result;
    ExperimentConfig& config = result.config;
    read_hf_config_of(folder, config);
    config.model.dropout = config.model.router_noise = config.load_balancing_weight = 0;
    const SafetensorsFolder files = open_weights(folder);
    check_size(config.model, files, folder);
    result.model = std::make_unique<Transformer>(config.model, ParameterInit{.std = 0});
    WeightPlan(files, folder, *result.model).load();
    if (const std::string tokenizer = folder + "/tokenizer.json"; fs::exists(tokenizer))
        result.tokenizer_json = read_file(tokenizer);
    return result;
}

void load_hf_weights(const std::string& folder, const Transformer& model) {
    const SafetensorsFolder files = open_weights(folder);
    WeightPlan(files, folder, model).load();
}

// ---- writing

namespace {

// What a folder of ours consists of.
bool is_hf_file(const std::string& name) {
    static const std::set<std::string> others{"config.json", "tokenizer.json", "tokenizer_config.json",
                                              weights_file, weights_index_file};
    return others.contains(name) || (name.starts_with("model-") && name.ends_with(".safetensors"));
}

bool stays_float32(const std::string& name) {
    return name.ends_with(".mlp.gate.weight") || name.ends_with(".e_score_correction_bias");
}

std::optional<NarrowFloat> narrow_format(HfDType dtype) {
    if (dtype == HfDType::fp32) return std::nullopt;
    return dtype == HfDType::bf16 ? NarrowFloat::bfloat16 : NarrowFloat::float16;
}

std::vector<TensorToWrite> tensors_to_write(const FinalModel& model, HfDType dtype) {
    std::vector<TensorToWrite> tensors;
    const ModelConfig& config = model.config.model;
    for (const NamedTensor& t : model.model->state()) {
        if (t.name == "lm_head.weight" && config.tie_embeddings) continue;
        const std::string name = hf_name(t.name);
        tensors.push_back(
            {name, t.tensor.to(Device{}), stays_float32(name) ? std::nullopt : narrow_format(dtype)});
    }
    // transformers always has shared experts, though of no width.
    for (int64_t layer = 0; config.shared_experts == 0 && layer < config.n_layers; ++layer) {
        if (config.is_dense_layer(layer)) continue;
        const std::string shared = layer_prefix(layer) + "mlp.shared_experts.";
        for (const char* part : {"gate_proj.weight", "up_proj.weight"})
            tensors.push_back({shared + part, Tensor::empty({0, config.d_model}), narrow_format(dtype)});
        tensors.push_back(
            {shared + "down_proj.weight", Tensor::empty({config.d_model, 0}), narrow_format(dtype)});
    }
    return tensors;
}

Json config_document(const FinalModel& model, const std::string& what, HfDType dtype) {
    Json json = hf_config(model.config, what);
    json["dtype"] = dtype == HfDType::fp32 ? "float32" : dtype == HfDType::bf16 ? "bfloat16" : "float16";
    json["bos_token_id"] = nullptr;
    json["eos_token_id"] = nullptr;
    if (model.tokenizer_json.empty()) return json;
    const int32_t end =
        Tokenizer::from_json(model.tokenizer_json, "its tokenizer.json").added_token_id(end_of_text);
    if (end >= 0) json["eos_token_id"] = end;
    return json;
}

void write_texts(const std::string& folder, const FinalModel& model, const Json& config) {
    write_json_atomic(folder + "/config.json", config);
    if (model.tokenizer_json.empty()) return;
    write_file_atomic(folder + "/tokenizer.json", model.tokenizer_json);
    Json tokenizer{{"tokenizer_class", "PreTrainedTokenizerFast"}};
    if (!config["eos_token_id"].is_null()) tokenizer["eos_token"] = end_of_text;
    write_json_atomic(folder + "/tokenizer_config.json", tokenizer);
}

// Gives `made` the name of `folder`; what had it before is removed, or has it again when that fails.
void take_place(const std::string& made, const std::string& folder) {
    const std::string before = made + ".before";
    const bool replaces = fs::exists(folder);
    if (replaces) replace_file(folder, before);
    try {
        replace_file(made, folder);
    } catch (const Error&) {
        if (replaces) replace_file(before, folder);
        throw;
    }
    if (replaces) remove_folder(before);
}

}  // namespace

void check_hf_output(const std::string& folder) {
    if (fs::exists(folder) && !fs::is_directory(folder))
        fail_usage(fmt::format("{}: is a file; a Hugging Face folder needs another name", folder));
    for (const std::string& name : names_in(folder))
        if (!is_hf_file(name) || fs::is_directory(fs::path(folder) / name))
            fail_usage(fmt::format(
                "{}: holds {}, which is no part of a Hugging Face folder as it is written here and would be "
                "lost; choose another folder, or move that",
                folder, name));
}

void write_hf_folder(const std::string& output, const FinalModel& model, const HfWriteOptions& options) {
    // results/mine/ -> results/mine
    const fs::path path = (fs::path(output) / "").lexically_normal().parent_path();
    const std::string folder = path.string();
    check_hf_output(folder);
    const Json config = config_document(model, folder, options.dtype);
    if (path.has_parent_path()) make_folder(path.parent_path());
    const std::string made =
        (path.parent_path() / fmt::format(".{}.writing-{}", path.filename().string(), ::getpid())).string();
    remove_folder(made);
    make_folder(made);
    try {
        write_safetensors_folder(made, tensors_to_write(model, options.dtype), options.shard_bytes);
        write_texts(made, model, config);
        take_place(made, folder);
    } catch (const std::exception&) {
        remove_folder(made);
        throw;
    }
}

}  // namespace sieve
