// Which earlier tokens does a trained indexer choose for the last token of a text, layer by layer?
//   select_keys MODEL TEXT        MODEL: a .pt or .safetensors file, or a folder of results
#include <cstdio>
#include <exception>

#include "framework/autograd/autograd.h"
#include "framework/data/tokenizer.h"
#include "framework/train/model_file.h"

int main(int argc, char** argv) try {
    if (argc < 3) return std::fputs("usage: select_keys MODEL TEXT\n", stderr), 2;
    using namespace sieve;
    const FinalModel trained = read_model(argv[1]);
    const Tokenizer tokenizer = Tokenizer::from_json(trained.tokenizer_json, argv[1]);
    const std::vector<int32_t> text = tokenizer.encode(argv[2]);
    const auto length = static_cast<int64_t>(text.size());
    if (length == 0) return std::fputs("select_keys: the text is empty\n", stderr), 2;

    const NoGrad no_grad;
    ForwardOptions options;
    options.observe = [&](int64_t layer, const AttentionTrace& trace) {
        const Tensor& indices = trace.selection.indices;
        if (!indices.defined()) return;  // a classic layer reads every token
        const auto keys = indices.to_vector<int32_t>(), counts = trace.selection.counts.to_vector<int32_t>();
        std::printf("layer %ld:", layer);
        const auto row = static_cast<size_t>((length - 1) * indices.dim(2));
        for (size_t i = row; i < row + static_cast<size_t>(counts.back()); ++i)
            std::printf(" %d'%s'", keys[i],
                        tokenizer.decode({&text[static_cast<size_t>(keys[i])], 1}).c_str());
        std::printf("\n");
    };
    trained.model->forward(Tensor::from(text, {1, length}), options);
} catch (const std::exception& error) {
    std::fprintf(stderr, "select_keys: %s\n", error.what());
    return 1;
}
