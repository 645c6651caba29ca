// .pt files as they are. Almost every mutation falls to a CRC: pickle.cpp has what lies behind it.
#include "framework/io/pt.h"

#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::vector<std::string> samples() {
    const Tensor embed = Tensor::from<float>({1.5f, -2, 3, 4, 5, 6}, {2, 3});
    const std::string path = scratch_file("sample.pt", "");
    write_pt(path,
             {{"embed.weight", embed},
              {"lm_head.weight", embed},
              {"counts", Tensor::from<int64_t>({7, -8}, {2})},
              {"empty", Tensor::zeros({0, 3})}},
             {{"config.json", "{\"d_model\": 3}"}});
    std::vector<std::string> files{bytes_of_file(path)};
    write_pt(path, {});
    files.push_back(bytes_of_file(path));
    return files;
}

const RegisteredFormat registered({.name = "pt",
                                   .samples = samples,
                                   .read =
                                       [](const std::string& input) { read_pt(scratch_file("x.pt", input)); },
                                   .finds_every_flip = true});

}  // namespace
}  // namespace sieve::fuzz
