// NumPy arrays.
#include "framework/io/npy.h"

#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

std::vector<std::string> samples() {
    std::vector<std::string> files;
    for (const Tensor& array :
         {Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3}), Tensor::from<int64_t>({7}, {1}),
          Tensor::full({}, 2), Tensor::zeros({0, 4}, DType::uint8)}) {
        const std::string path = scratch_file("sample.npy", "");
        write_npy(path, array);
        files.push_back(bytes_of_file(path));
    }
    return files;
}

const RegisteredFormat registered({"npy", samples,
                                   [](const std::string& input) { read_npy(scratch_file("x.npy", input)); }});

}  // namespace
}  // namespace sieve::fuzz
