// The exported graph, checked and run by the onnx and onnxruntime packages.
#include "framework/io/onnx.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "framework/autograd/autograd.h"
#include "framework/core/error.h"
#include "framework/io/npy.h"
#include "framework/ops/lightning_indexer/lightning_indexer.h"
#include "models/onnx_graph.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

constexpr int32_t vocabulary = 37;  // small: texts repeat tokens, so that scores tie
constexpr float clear_margin = 1e-4f;

ModelConfig tiny(const std::string& attention, const std::string& indexer, int64_t top_k) {
    ModelConfig c;
    c.attention = from_name<AttentionKind>("attention", attention);
    c.indexer = from_name<IndexerKind>("indexer", indexer);
    c.vocab_size = vocabulary;
    c.d_model = 24, c.n_heads = 2, c.n_layers = 2, c.d_ff = 20;
    c.num_experts = 3, c.expert_top_k = 2;
    c.indexer_heads = 3, c.indexer_dim = 8, c.sparse_top_k = top_k;
    return c;
}

// A model with a tensor that no graph knows of.
class Variant : public Transformer {
  public:
    explicit Variant(const ModelConfig& config) : Transformer(config, ParameterInit{}) {
        add_parameter("router.bias", Tensor::zeros({3}));
    }
};

std::optional<std::string> python_with_onnx() {
    return python_with("onnx, onnxruntime");
}

// Whether the keys that row t selects lead the others by more than rounding can change, or tie to the bit for
// a reason: equal tokens in the first layer, ReLU zeros in any.
bool is_clear(const float* scores, int64_t t, int64_t k, int64_t layer) {
    if (t < k) return true;  // every key is taken
    std::vector<float> sorted(scores, scores + t + 1);
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    const float last = sorted[static_cast<size_t>(k - 1)], next = sorted[static_cast<size_t>(k)];
    return last - next > clear_margin || (last == next && (layer == 0 || last == 0));
}

bool is_clear(const Transformer& model, const Tensor& tokens) {
    const int64_t T = tokens.dim(1);
    bool clear = true;
    ForwardOptions options{.logits = false};
    options.observe = [&](int64_t layer, const AttentionTrace& trace) {
        if (!model.config().is_sparse()) return;
        const Tensor scores = indexer_scores(*trace.indexer_operands());
        for (int64_t row = 0; row < tokens.numel(); ++row)
            clear = clear && is_clear(scores.data<float>() + row * T, row % T,
                                      model.config().sparse_top_k.of(layer), layer);
    };
    model.forward(tokens, options);
    return clear;
}

// Random tokens whose selections do not hang on another program's rounding.
Tensor clear_tokens(const Transformer& model, const Shape& shape, uint64_t seed) {
    for (uint64_t i = 0; i < 100; ++i) {
        const Tensor tokens =
            random_tokens(shape, 1000 * seed + i, static_cast<int32_t>(model.config().vocab_size));
        if (is_clear(model, tokens)) return tokens;
    }
    FAIL("no clear text of shape " << to_string(shape));
    return {};
}

// As if trained: norms have weights and biases of their own. Indexer keys that go through a LayerNorm are so
// small that its epsilon counts.
void disturb(const Transformer& model) {
    for (const NamedTensor& p : model.parameters()) {
        const NoGrad guard;
        if (p.tensor.rank() == 1)
            p.tensor.copy_from(random_uniform(p.tensor.shape(), p.name.size(), 0.5, 1.5));
        if (model.config().indexer != IndexerKind::deepseek ||
            p.name.find("indexer.k_proj") == std::string::npos)
            continue;
        for (int64_t i = 0; i < p.tensor.numel(); ++i) p.tensor.data<float>()[i] *= 1e-3f;
    }
}

// Writes the model and one case a shape, runs check_onnx.py, and checks every difference.
void check_onnx(const std::string& python, const ModelConfig& config, const std::vector<Shape>& shapes) {
    INFO(name_of(config.attention) << " " << name_of(config.indexer) << " k " << config.sparse_top_k);
    const NoGrad guard;
    const TemporaryFolder folder;
    const std::string cases = folder / "cases", file = folder / "model.onnx";
    std::filesystem::create_directory(cases);
    const Transformer model(config, ParameterInit{.std = 0.3});
    disturb(model);
    OnnxModel graph = onnx_graph(model);
    graph.metadata = {{"config.json", "{}"}, {"tokenizer.json", "\u00e9"}};
    write_onnx(file, graph);
    for (size_t i = 0; i < shapes.size(); ++i) {
        const Tensor tokens = clear_tokens(model, shapes[i], i + 1);
        write_npy(cases + "/tokens_" + std::to_string(i) + ".npy", tokens);
        write_npy(cases + "/logits_" + std::to_string(i) + ".npy", model.forward(tokens, {}).logits);
    }
    std::string output;
    const int status =
        run_command(python + " " + source_dir() + "/tests/onnx/check_onnx.py " + file + " " + cases, output);
    INFO(output);
    REQUIRE(status == 0);
    std::istringstream lines(output);
    std::string line, word;
    size_t compared = 0;
    while (std::getline(lines, line)) {
        std::istringstream words(line);
        double difference = 0, largest = 0;
        if (!(words >> word >> difference >> largest) || word != "difference") continue;
        ++compared;
        CHECK_MESSAGE(difference <= 1e-4, line);
        CHECK_MESSAGE((largest > 1 || shapes[compared - 1].numel() == 0), line);
    }
    CHECK(compared == shapes.size());
    CHECK(output.find("metadata config.json tokenizer.json") != std::string::npos);
}

// Empty ones too: the graph says any batch and length.
const std::vector<Shape> shapes = {{1, 0}, {0, 4}, {1, 1}, {1, 2}, {3, 1}, {2, 7}, {1, 33}, {5, 13}, {2, 70}};

}  // namespace

TEST_CASE("onnx: the full checker accepts the graph, ONNX Runtime gives our logits, classic") {
    const auto python = python_with_onnx();
    if (!python) return skip("no Python with onnx and onnxruntime (.ci/run makes one)");
    check_onnx(*python, tiny("classic", "plain", 4), shapes);
}

TEST_CASE("onnx: the full checker accepts the graph, ONNX Runtime gives our logits, sparse") {
    const auto python = python_with_onnx();
    if (!python) return skip("no Python with onnx and onnxruntime (.ci/run makes one)");
    for (const char* indexer : {"plain", "deepseek"})
        for (const int64_t k : {8, 40}) check_onnx(*python, tiny("sparse", indexer, k), shapes);
}

TEST_CASE("onnx: equal tokens of the first layer tie, the lower index wins as here") {
    const auto python = python_with_onnx();
    if (!python) return skip("no Python with onnx and onnxruntime (.ci/run makes one)");
    for (const char* indexer : {"plain", "deepseek"})
        for (const int64_t k : {3, 20}) {
            ModelConfig c = tiny("sparse", indexer, k);
            c.n_layers = 1, c.vocab_size = 5;
            check_onnx(*python, c, {{1, 9}, {3, 40}, {2, 101}});
        }
}

TEST_CASE("onnx: a single expert, a single head, a set indexer scale") {
    const auto python = python_with_onnx();
    if (!python) return skip("no Python with onnx and onnxruntime (.ci/run makes one)");
    ModelConfig c = tiny("sparse", "plain", 5);
    c.num_experts = c.expert_top_k = 1, c.n_heads = 1, c.n_layers = 1, c.indexer_heads = 1;
    c.indexer_scale = -0.5, c.norm_eps = 0.01, c.rope_base = 100;
    check_onnx(*python, c, shapes);
}

TEST_CASE("onnx: experts weighed over all of them") {
    const auto python = python_with_onnx();
    if (!python) return skip("no Python with onnx and onnxruntime (.ci/run makes one)");
    for (const auto& [weights, top_k] :
         {std::pair{RouterWeights::all, 1}, std::pair{RouterWeights::scaled, 2},
          std::pair{RouterWeights::straight_through, 1}}) {
        ModelConfig c = tiny("classic", "plain", 4);
        c.router_weights = weights, c.expert_top_k = top_k;
        check_onnx(*python, c, shapes);
    }
}

TEST_CASE("onnx: a head of its own, a dense layer, the indexer's rotations, YaRN") {
    const auto python = python_with_onnx();
    if (!python) return skip("no Python with onnx and onnxruntime (.ci/run makes one)");
    for (const RopeLayout layout : {RopeLayout::half_split, RopeLayout::interleaved})
        for (const int64_t dims : {2, 8}) {
            ModelConfig c = tiny("sparse", "deepseek", 8);
            c.indexer_rope_layout = layout, c.indexer_rope_dim = dims;
            c.tie_embeddings = false;
            c.ffn_layers = "DM", c.dense_d_ff = 33;
            c.rope_scaling = RopeScaling::yarn, c.rope_factor = 8, c.rope_original_max_seq_len = 16;
            c.rope_beta_fast = 2, c.rope_base = 100, c.rope_mscale_all_dim = dims == 2 ? 0 : 1;
            check_onnx(*python, c, shapes);
        }
}

TEST_CASE("onnx: the same graph gives the same bytes, weights as they are") {
    const TemporaryFolder folder;
    const Transformer model(tiny("sparse", "deepseek", 4), ParameterInit{});
    write_onnx(folder / "a.onnx", onnx_graph(model));
    write_onnx(folder / "b.onnx", onnx_graph(model));
    const auto bytes = [&](const char* name) {
        std::ostringstream all;
        all << std::ifstream(folder / name, std::ios::binary).rdbuf();
        return all.str();
    };
    CHECK(bytes("a.onnx") == bytes("b.onnx"));
    for (const NamedTensor& p : model.parameters()) {
        const std::string_view weight(static_cast<const char*>(p.tensor.raw()),
                                      static_cast<size_t>(p.tensor.bytes()));
        CHECK_MESSAGE(bytes("a.onnx").find(weight) != std::string::npos, p.name);
        CHECK_MESSAGE(bytes("a.onnx").find(p.name) != std::string::npos, p.name);
    }
}

TEST_CASE("onnx: what cannot be exported or written is refused") {
    const Transformer doubles(tiny("classic", "plain", 4), ParameterInit{.dtype = DType::float64});
    check_error("onnx_graph: embed.weight is float64 [37,24], want float32 [37,24]",
                [&] { onnx_graph(doubles); });
    const Variant variant(tiny("sparse", "plain", 4));
    check_error(
        "onnx_graph: cannot export this variant of the model yet: the graph has no place for router.bias",
        [&] { onnx_graph(variant); });
    const auto refuse = [](const std::string& what, const std::function<void(ModelConfig&)>& apply) {
        ModelConfig c = tiny("sparse", "plain", 4);
        apply(c);
        const Transformer other(c, ParameterInit{});
        check_error("onnx: " + what + " has no ONNX graph yet; export to .safetensors or .pt",
                    [&] { onnx_graph(other); });
    };
    refuse("selector hisa", [](ModelConfig& c) { c.selector = "hisa"; });
    refuse("index_share FS", [](ModelConfig& c) { c.index_share = "FS"; });
    refuse("indexer_pool 2", [](ModelConfig& c) { c.indexer_pool = 2; });
    refuse("indexer_weights off", [](ModelConfig& c) { c.indexer_weights = IndexerWeights::off; });
    const Transformer model(tiny("classic", "plain", 4), ParameterInit{});
    check_error("/nowhere/x.onnx: cannot write: No such file or directory",
                [&] { write_onnx("/nowhere/x.onnx", onnx_graph(model)); });
}
