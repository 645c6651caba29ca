// The pickle inside a .pt file, with true CRCs around it and three storages of 64 bytes. The corpus has one
// of torch.save: with a memo, a nested dict, a strided view, a Parameter and a half.
#include "framework/io/little_endian.h"
#include "framework/io/pt.h"
#include "framework/io/zip.h"
#include "tests/fuzz/format.h"

namespace sieve::fuzz {
namespace {

constexpr int storages = 3;
constexpr size_t storage_bytes = 64;

std::string pickle_of(const NamedTensors& tensors) {
    const std::string path = scratch_file("sample.pt", "");
    write_pt(path, tensors);
    const std::string bytes = bytes_of_file(path);
    for (const ZipMember& member : read_zip(bytes, path, "zip"))
        if (member.name == "archive/data.pkl") return std::string(member.payload);
    return "";
}

std::vector<std::string> samples() {
    const Tensor shared = Tensor::zeros({4, 4});
    return {pickle_of({{"a", shared}, {"b", shared}, {"c", Tensor::zeros({8}, DType::float64)}}),
            pickle_of({})};
}

void read(const std::string& pickle) {
    const std::string path = scratch_file("pickle.pt", "");
    const std::string elements(storage_bytes, '\1');
    ZipWriter zip(path);
    zip.add("archive/data.pkl", pickle);
    for (int i = 0; i < storages; ++i) zip.add("archive/data/" + std::to_string(i), elements);
    zip.add("archive/version", "3\n");
    zip.write();
    read_pt(path);
}

std::string unicode(const std::string& text) {
    std::string opcode = "X";
    append_number(opcode, static_cast<uint32_t>(text.size()));
    return opcode + text;
}

// The 64 bytes of storage 0 as 16 floats.
std::string tensor(const std::string& sizes, const std::string& strides) {
    return "ctorch._utils\n_rebuild_tensor_v2\n((" + unicode("storage") + "ctorch\nFloatStorage\n" +
           unicode("0") + unicode("cpu") + "K\x10tQK" + std::string(1, '\0') + sizes + strides + "\x89}tR";
}

std::vector<std::string> attacks() {
    constexpr size_t many = 4'000'000;
    const std::string start = "\x80\x02", small = "K\x10\x85";
    std::vector<std::string> all;
    // Values of a byte or two; marks; recalls of one value, on the stack, in one list and in many tuples.
    for (const char* part : {"N", "]", ")", "}", "(", "K\1", "]a", "N\x85", "(t", ")\x85\x85\x85"})
        all.push_back(start + "]" + repeated(part, many));
    all.push_back(start + "]q\1" + repeated("h\1", many));
    all.push_back(start + "](" + repeated("N", 1000) + "tq\1" + repeated("h\1\x86", many / 2));
    all.push_back(start + "](" + repeated("N", many) + "e" + repeated("(NNNNe", many / 4));
    // A memo without end; globals, whose names are long.
    std::string memo = start + "N";
    for (uint32_t i = 0; i < many / 4; ++i) append_number(memo += 'r', i);
    all.push_back(memo);
    all.push_back(start + repeated("ccollections\nOrderedDict\n)R", many / 16));
    // A tensor whose arguments are many, made again and again; the same through Parameters; sizes without
    // end.
    all.push_back(start + "}" + unicode("w") + "ctorch._utils\n_rebuild_tensor_v2\nq\2" +
                  tensor(small, "K\1\x85") + repeated("h\2(NNNNNNNNNNNNNNNN", many / 64));
    all.push_back(start + "}" + unicode("w") + "ctorch._utils\n_rebuild_parameter\nq\2" +
                  tensor(small, "K\1\x85") + "\x85q\3R0" + repeated("h\2h\3R", many / 4));
    all.push_back(start + "}" + unicode("w") + tensor("(" + repeated("K\1", many / 2) + "t", "K\1\x85") +
                  "s.");
    // Many tensors of few bytes, each another view.
    std::string views = start + "}(";
    for (size_t i = 0; i < 60'000; ++i)
        views += unicode("w" + std::to_string(i)) +
                 tensor("K\1K\1K\1\x87", "J" + std::to_string(1000 + i % 9000) + "K\1K\1\x87");
    all.push_back(views + "u.");
    // One long text, and its damage.
    all.push_back(start + "}" + unicode(std::string(many, 'x')) + "K\1s.");
    all.push_back(start + "c" + std::string(many, 'x') + "\n" + std::string(many, '\x1b') + "\n)R.");
    return all;
}

const RegisteredFormat registered({"pickle", samples, read, attacks});

}  // namespace
}  // namespace sieve::fuzz
