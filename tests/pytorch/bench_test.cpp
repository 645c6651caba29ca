// The two sides of bench_side_by_side.py train the same model: from one state dict and batch both have the
// same losses.
#include <nlohmann/json.hpp>

#include "tests/support/python.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

nlohmann::json last_line_as_json(const std::string& command) {
    std::string output;
    INFO(command);
    const int status = run_command(command, output);
    INFO(output);
    REQUIRE(status == 0);
    output.erase(output.find_last_not_of('\n') + 1);
    return nlohmann::json::parse(output.substr(output.find_last_of('\n') + 1));
}

}  // namespace

TEST_CASE("bench: the first step's losses are PyTorch's, with masked and with gathered attention") {
    const auto python = python_with("torch, numpy");
    if (!python) return skip("no Python with PyTorch (Debian: python3-torch)");
    const TemporaryFolder folder;
    const std::string size = " --preset small --batch_size 2 --seq_len 19 --top_k 5 --threads 1 --steps 1";
    const std::string torch_side = *python + " " + source_dir() + "/tests/pytorch/bench_step.py" + size;
    std::string output;
    REQUIRE(run_command(torch_side + " --attention sparse --write_inputs " + folder.path().string(),
                        output) == 0);
    const auto ours = last_line_as_json(source_dir() + "/tools/bench step" + size +
                                        " --json --attention sparse --optimizer adamw --checkpoint " +
                                        (folder / "model.pt") + " --tokens " + (folder / "tokens.npy") +
                                        " --targets " + (folder / "targets.npy"));
    for (const char* variant : {"sparse", "sparse_gathered"}) {
        const auto theirs = last_line_as_json(torch_side + " --json --attention " + variant + " --inputs " +
                                              folder.path().string());
        for (const char* loss : {"lm", "load_balancing", "indexer_kl"}) {
            INFO(variant << ", " << loss);
            CHECK(ours["sparse"]["first_losses"][loss].get<double>() ==
                  doctest::Approx(theirs["first_losses"][loss].get<double>()).epsilon(1e-5));
        }
    }
}
