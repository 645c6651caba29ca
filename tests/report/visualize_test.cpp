// tools/visualize as a user meets it, on models that were not trained.
#include <filesystem>

#include "framework/io/atomic_file.h"
#include "framework/io/pt.h"
#include "framework/runs/experiment.h"
#include "framework/train/checkpoint.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

ExperimentConfig tiny(const std::string& attention, const std::string& cache) {
    ExperimentConfig c;
    apply_preset(c, "small");
    c.model.attention = from_name<AttentionKind>("attention", attention);
    c.model.vocab_size = 300;
    c.model.d_model = 16, c.model.n_heads = 2, c.model.n_layers = 2, c.model.d_ff = 16;
    c.model.max_seq_len = 12;
    c.model.indexer_heads = 2, c.model.indexer_dim = 8, c.model.sparse_top_k = 4;
    c.data = testing::source_dir() + "/data/excerpt";
    c.max_tokens = 2000;
    c.cache_dir = cache;
    return c;
}

// results/{sparse,classic}/final_model.pt
class Results {
  public:
    Results() {
        for (const char* attention : {"sparse", "classic"})
            write_model(attention, tiny(attention, folder_ / "cache"));
    }
    void write_model(const std::string& name, const ExperimentConfig& config) const {
        const Dataset data = load_dataset(data_config(tiny("sparse", folder_ / "cache")));
        make_folder(folder_ / "results/" + name);
        write_final_model(*this / (name + "/final_model.pt"), Transformer(config.model, ParameterInit{}),
                          config, data.tokenizer().to_json());
    }
    std::string operator/(const std::string& name) const { return folder_ / ("results/" + name); }

    // Runs `visualize` with results/ as the working folder; checks its exit code and that the output holds
    // `text`.
    void check(const std::string& arguments, int status, const std::string& text) const {
        std::string output;
        const int got = run_command(
            "cd '" + (*this / "") + "' && " + testing::source_dir() + "/tools/visualize " + arguments,
            output);
        INFO(arguments, "\n", output);
        CHECK(got == status);
        CHECK(output.find(text) != std::string::npos);
    }

  private:
    TemporaryFolder folder_;
};

std::vector<std::string> files_in(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder))
        names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("visualize: a sparse model, a classic one beside it, a text of the user's") {
    const Results results;
    results.check("sparse --layer all", 0, "wrote comparison/attention_pattern_layer1.png");
    const Names of_sparse = {"attention_pattern_layer0.png", "attention_pattern_layer1.png",
                             "attention_statistics.json",    "attention_statistics.png",
                             "indexer_heads_layer0.png",     "indexer_heads_layer1.png"};
    CHECK(files_in(results / "comparison") == of_sparse);
    const std::string pattern = read_file(results / "comparison/attention_pattern_layer0.png");

    results.check("classic --out '" + (results / "comparison") + "'", 0, "it has no indexer");
    CHECK(files_in(results / "comparison").size() == of_sparse.size() + 1);
    CHECK(fs::exists(results / "comparison/dense_attention_layer0.png"));
    CHECK(read_file(results / "comparison/attention_pattern_layer0.png") == pattern);

    results.check("sparse/final_model.pt --sample 1", 0, "wrote comparison/attention_statistics.json");
    CHECK(read_file(results / "comparison/attention_pattern_layer0.png") == pattern);
    CHECK(read_file(results / "comparison/sample1/attention_pattern_layer0.png") != pattern);

    results.check("sparse --layer 1 --text 'To be or not' --out new/deep", 0,
                  "wrote new/deep/indexer_heads_layer1.png");
    CHECK(files_in(results / "new/deep") ==
          Names{"attention_pattern_layer1.png", "indexer_heads_layer1.png"});
    results.check("sparse --text 'To be, or not to be, that is the question: whether it is nobler' --out new",
                  0, "of which the first 12 are drawn (the model's max_seq_len)");
    results.check("sparse --text x --out new", 0, "wrote new/attention_pattern_layer0.png");
}

TEST_CASE("visualize: bad input gets one clear line and its exit code, and nothing is overwritten") {
    const Results results;
    make_folder(results / "comparison");
    const std::string picture = results / "comparison/attention_pattern_layer0.png";
    write_file_atomic(picture, "earlier");
    results.check("", 2, "which results?");
    results.check("nowhere", 3, "nowhere/final_model.pt: cannot read");
    results.check(".", 3, "give ./sparse or ./classic, or --report");
    results.check("sparse --layer 2", 2, "layer: '2', want 0 to 1 or all");
    results.check("sparse --layer=-1", 2, "layer: '-1', want 0 to 1 or all");
    results.check("sparse --layer first", 2, "layer: 'first', want 0 to 1 or all");
    results.check("sparse --sample 100000", 2, "sample: 100000, want 0 to ");
    results.check("sparse --sample=-1", 2, "sample: -1, want 0 to ");
    results.check("sparse --sample some", 2, "sample");
    results.check("sparse --text ''", 2, "text: empty");
    results.check("sparse --text a --sample 0", 2, "--text and --sample: give one of them");
    results.check("sparse --layr 1", 2, "did you mean --layer?");
    results.check("sparse classic", 2, "unknown argument classic");
    results.check("sparse --out sparse/final_model.pt/x", 3,
                  "sparse/final_model.pt/x: cannot make this folder");
    results.check("sparse --out sparse/final_model.pt", 3, "cannot make this folder");
    results.check(". --report", 3, "holds no results of an experiment");
    results.check("nowhere --report", 3, "nowhere: no such folder");
    results.check(". --report --layer 0", 2, "--report and --layer: give one of them");
    CHECK(files_in(results / "comparison") == Names{"attention_pattern_layer0.png"});
    CHECK(read_file(picture) == "earlier");
}

TEST_CASE("visualize: damaged and foreign checkpoints are refused") {
    const Results results;
    const std::string whole = read_file(results / "sparse/final_model.pt");
    write_file_atomic(results / "sparse/final_model.pt", whole.substr(0, whole.size() / 2));
    results.check("sparse", 3, "sparse/final_model.pt");
    write_file_atomic(results / "sparse/final_model.pt", "not a checkpoint");
    results.check("sparse", 3, "sparse/final_model.pt");
    write_pt(results / "sparse/final_model.pt", {{"weight", Tensor::zeros({2, 2})}});
    results.check("sparse", 3, "has no config.json; it was not written by this program");
    CHECK(!fs::exists(results / "comparison"));
}

TEST_CASE("visualize: without the training data a text can still be drawn") {
    const Results results;
    ExperimentConfig config = tiny("sparse", results / "cache");
    config.data = "/nowhere/book.txt";
    results.write_model("sparse", config);
    results.check("sparse", 3, "/nowhere/book.txt: no such file or folder");
    results.check("sparse", 3, "--text draws a text of yours without it");
    CHECK(!fs::exists(results / "comparison"));
    results.check("sparse --text 'To be or not'", 0, "wrote comparison/text/attention_pattern_layer0.png");
}
