// parity: runs a model from a PyTorch state dict on given tokens and writes everything that another
// implementation would compare: logits, selections, losses and gradients.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "framework/autograd/autograd.h"
#include "framework/core/error.h"
#include "framework/data/token_array.h"
#include "framework/io/atomic_file.h"
#include "framework/io/json_file.h"
#include "framework/io/npy.h"
#include "framework/io/pt.h"
#include "framework/ops/add/add.h"
#include "framework/ops/cross_entropy/cross_entropy.h"
#include "framework/ops/scale/scale.h"
#include "framework/program/command_line.h"
#include "framework/program/hf_config.h"
#include "framework/train/hf_folder.h"
#include "models/transformer.h"

namespace sieve {
namespace {

struct Arguments {
    std::string checkpoint, config, tokens, targets, out, stage = "sparse", dtype = "float32";
};

DType parse_dtype(const std::string& name) {
    if (name == "float32") return DType::float32;
    if (name == "float64") return DType::float64;
    fail_usage(fmt::format("dtype: '{}', want float32 or float64", name));
}

AttentionStage parse_stage(const std::string& name) {
    if (name == "dense") return AttentionStage::dense;
    if (name == "sparse") return AttentionStage::sparse;
    fail_usage(fmt::format("stage: '{}', want dense or sparse", name));
}

// The selection as a [B,T,T] mask.
Tensor mask_of(const Selection& selection) {
    const int64_t B = selection.indices.dim(0), T = selection.indices.dim(1),
                  slots = selection.indices.dim(2);
    const Tensor mask = Tensor::zeros({B, T, T}, DType::uint8);
    for (int64_t row = 0; row < B * T; ++row)
        for (int64_t i = 0; i < selection.counts.data<int32_t>()[row]; ++i)
            mask.data<uint8_t>()[row * T + selection.indices.data<int32_t>()[row * slots + i]] = 1;
    return mask;
}

NamedTensors gradients_of(const NamedTensors& parameters) {
    NamedTensors grads;
    for (const NamedTensor& p : parameters)
        if (p.tensor.grad().defined()) grads.push_back({p.name, p.tensor.grad()});
    return grads;
}

// Of the file that is given, or of a Hugging Face folder.
ExperimentConfig read_config(const Arguments& a) {
    ExperimentConfig config;
    if (a.config.empty()) {
        apply_hf_folder(config, a.checkpoint);
        config.load_balancing_weight = 0;  // DeepSeek's routers are balanced by their biases
        return config;
    }
    config = config_from_json(read_json(a.config), a.config, true);
    check_config(config, a.config);
    return config;
}

void load_weights(const Arguments& a, const Transformer& model) {
    if (is_hf_folder(a.checkpoint))
        load_hf_weights(a.checkpoint, model);
    else
        model.load_state(read_pt(a.checkpoint).tensors, a.checkpoint);
}

void run(const Arguments& a) {
    const ExperimentConfig config = read_config(a);
    const Transformer model(config.model, ParameterInit{.dtype = parse_dtype(a.dtype)});
    load_weights(a, model);
    const Tensor tokens = read_token_array(a.tokens, config.model.vocab_size);
    const bool sparse = config.model.is_sparse();
    make_folder(a.out);

    ForwardOptions options{.stage = parse_stage(a.stage), .indexer_loss = sparse};
    options.which_loss = selector_loss(config, options.stage);
    options.observe = [&](int64_t layer, const AttentionTrace& trace) {
        if (trace.selection.indices.defined())
            write_npy(fmt::format("{}/selected_{}.npy", a.out, layer), mask_of(trace.selection),
                      NpyBool::yes);
    };
    const ModelOutput out = model.forward(tokens, options);
    write_npy(a.out + "/logits.npy",
              out.logits.alias({tokens.dim(0), tokens.dim(1), config.model.vocab_size}));

    const Tensor balance = scale(out.load_balancing, config.load_balancing_weight);
    nlohmann::ordered_json losses{{"stage", a.stage}, {"load_balancing", json_number(balance.item())}};
    Tensor total = balance;
    if (!a.targets.empty()) {
        const Tensor targets = read_token_array(a.targets, config.model.vocab_size);
        if (targets.shape() != tokens.shape())
            fail_bad_file(fmt::format("{}: shape {}, want that of the tokens, {}", a.targets,
                                      to_string(targets.shape()), to_string(tokens.shape())));
        const Tensor lm = cross_entropy(out.logits, targets.alias({targets.numel()}));
        losses["lm"] = json_number(lm.item());
        total = add(lm, balance);
    }
    // The two losses reach disjoint parameters: one backward over their sum gives both gradients.
    if (out.indexer_loss.defined()) {
        losses["indexer_kl"] = json_number(out.indexer_loss.item());
        total = add(total, out.indexer_loss);
    }
    backward(total);
    write_pt(a.out + "/grads.pt", gradients_of(model.parameters()));
    write_json_atomic(a.out + "/losses.json", losses);
}

int main_of(int argc, char** argv) {
    Arguments a;
    ToolCommand command("parity",
                        "Runs a model from a PyTorch state dict and writes logits.npy, selected_{layer}.npy, "
                        "losses.json and grads.pt for comparison with another implementation.");
    command.option(
        "checkpoint", a.checkpoint,
        "state dict written by torch.save, our final_model.pt, or a Hugging Face folder (required)");
    command.option("config", a.config,
                   "config.json with the preset key names (required, but for a Hugging Face folder)");
    command.option("tokens", a.tokens, "tokens.npy, integers [B,T] (required)");
    command.option("targets", a.targets, "targets.npy, integers [B,T]; without it there is no lm loss");
    command.option("stage", a.stage, "what a sparse model's attention reads: dense or sparse");
    command.option("dtype", a.dtype, "float32 or float64");
    command.option("out", a.out, "folder to write (required)");
    if (!command.parse(argc, argv)) return 0;
    for (const auto& [name, value] : {std::pair{"checkpoint", &a.checkpoint}, std::pair{"config", &a.config},
                                      std::pair{"tokens", &a.tokens}, std::pair{"out", &a.out}})
        if (value->empty() && (value != &a.config || !is_hf_folder(a.checkpoint)))
            fail_usage(fmt::format("--{} is required; --help shows all", name));
    run(a);
    return 0;
}

}  // namespace
}  // namespace sieve

int main(int argc, char** argv) {
    return sieve::run_program("parity", {}, [&] { return sieve::main_of(argc, argv); });
}
