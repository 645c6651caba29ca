// Trains a tiny sparse-attention language model on a text file: first its indexer, then all of it.
//   train_text TEXT [STEPS]
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "framework/runs/experiment.h"
#include "framework/train/model_file.h"

int main(int argc, char** argv) try {
    if (argc < 2) return std::fputs("usage: train_text TEXT [STEPS]\n", stderr), 2;
    using namespace sieve;
    ExperimentConfig config;  // every key of the programs' command lines, with their defaults
    apply_preset(config, "small");
    config.data = argv[1];
    config.cache_dir = "";
    config.model.attention = AttentionKind::sparse;
    config.model.vocab_size = 300;
    config.model.sparse_top_k = 8;  // each token reads 8 of up to 64
    config.sparse_steps = argc > 2 ? std::atoi(argv[2]) : 200;
    config.warmup_steps = config.sparse_steps / 4;

    const Dataset data = load_data(config);
    std::printf("%s\n", data.description().c_str());
    const Transformer model(config.model, {.seed = 42, .std = config.model.init_std});
    for (const Stage& stage : stages_of(config)) {
        StageRunner runner(config, model, stage);
        for (int64_t step = 0; step < stage.steps; ++step) {
            const auto result = runner.step(step, data.batch(step));
            if (step % 50 == 0 || step + 1 == stage.steps)
                std::printf("%s %ld/%ld  loss %.4f\n", name_of(stage.kind), step + 1, stage.steps,
                            result.loss);
        }
    }
    write_final_model("model.pt", model, config, data.tokenizer().to_json());
    std::printf("model.pt: weights, configuration and tokenizer; torch.load reads it too\n");
} catch (const std::exception& error) {
    std::fprintf(stderr, "train_text: %s\n", error.what());
    return 1;
}
