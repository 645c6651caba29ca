// NumPy's archives.
#include "framework/io/npy.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::vector<std::string> samples() {
    const std::string path = scratch_file("sample.npz", "");
    write_npz(path, {{"a", Tensor::from<float>({1, 2}, {2})}, {"b", Tensor::zeros({3, 0})}});
    return {bytes_of_file(path)};
}

std::vector<std::string> attacks() {
    NamedTensors many;
    for (int i = 0; i < 20'000; ++i) many.push_back({std::to_string(i), Tensor::zeros({0})});
    const std::string path = scratch_file("sample.npz", "");
    write_npz(path, many);
    return {bytes_of_file(path)};
}

const RegisteredFormat registered({"npz", samples,
                                   [](const std::string& input) { read_npz(scratch_file("x.npz", input)); },
                                   attacks});

}  // namespace
}  // namespace sieve::fuzz
