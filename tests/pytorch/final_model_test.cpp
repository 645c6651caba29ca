// What exp4 leaves behind, opened by PyTorch.
#include "framework/io/npy.h"
#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

const std::string root = testing::source_dir();

void check_command(const std::string& command) {
    std::string output;
    const int status = run_command(command, output);
    INFO(command << "\n" << output);
    REQUIRE(status == 0);
}

}  // namespace

TEST_CASE("final_model.pt of both variants: PyTorch loads it with strict=True and gives the same logits") {
    const auto python = python_with_torch();
    if (!python) return skip("no Python with PyTorch (Debian: python3-torch)");
    const TemporaryFolder folder;
    const std::vector<std::string> variants = {
        "--indexer plain", "--indexer deepseek",
        "--attention_type mla --q_lora_rank 24 --kv_lora_rank 16 --qk_nope_head_dim 8 --qk_rope_head_dim 4 "
        "--v_head_dim 8 --indexer deepseek --sparse_top_k 12,6 --ffn swiglu --shared_experts 1 --router "
        "sigmoid_bias"};
    for (size_t i = 0; i < variants.size(); ++i) {
        const std::string results = folder / ("variant" + std::to_string(i));
        check_command(
            root +
            "/experiments/exp4 --preset small --d_model 32 --n_heads 2 --n_layers 2 --d_ff 32 "
            "--max_seq_len 24 --batch_size 4 --indexer_dim 8 --sparse_top_k 8 --vocab_size 300 --max_tokens "
            "20000 --classic_steps 20 --warmup_steps 3 --sparse_steps 20 --eval_every 20 --eval_batches 1 "
            "--threads 1 --stages classic,sparse " +
            variants[i] + " --data " + root + "/data/excerpt --cache_dir " + (folder / "cache") +
            " --results_dir " + results);
        write_npy(folder / "tokens.npy", random_tokens({2, 24}, 1, 300));
        for (const char* attention : {"classic", "sparse"}) {
            const std::string model = results + "/" + attention + "/final_model.pt";
            const std::string config = results + "/" + attention + "/config.json";
            check_command(*python + " " + root + "/tests/pytorch/load_checkpoint.py " + model + " " + config +
                          " --tokens " + (folder / "tokens.npy") + " --logits " + (folder / "theirs.npy"));
            check_command(root + "/tools/parity --checkpoint " + model + " --config " + config +
                          " --tokens " + (folder / "tokens.npy") + " --out " + (folder / "ours"));
            CHECK(max_abs_difference(read_npy(folder / "ours/logits.npy"), read_npy(folder / "theirs.npy")) <
                  1e-4);
        }
    }
}
