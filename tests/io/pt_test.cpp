#include "framework/io/pt.h"

#include <fmt/format.h>

#include <fstream>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/little_endian.h"
#include "framework/io/pickle.h"
#include "framework/io/zip.h"
#include "tests/support/python.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

NamedTensors sample_tensors() {
    const Tensor embed = random_normal({5, 3}, 1, DType::float32);
    return {{"embed.weight", embed},
            {"double", random_normal({2, 1, 4}, 2)},
            {"long", Tensor::from<int64_t>({-1, int64_t{1} << 40}, {2})},
            {"int", Tensor::from<int32_t>({3, -4, 5}, {3})},
            {"byte", Tensor::from<uint8_t>({0, 255}, {1, 2})},
            {"empty", Tensor::zeros({0, 3})},
            {"scalar", Tensor::full({}, 2.5)},
            {"lm_head.weight", embed}};
}

const Tensor& at(const NamedTensors& tensors, const std::string& name) {
    for (const auto& [key, tensor] : tensors)
        if (key == name) return tensor;
    throw std::runtime_error("no tensor " + name);
}

std::string member(const std::string& path, const std::string& name) {
    const std::string bytes = read_file(path);
    for (const ZipMember& m : read_zip(bytes, path, "zip"))
        if (m.name == name) return std::string(m.payload);
    throw std::runtime_error("no member " + name);
}

// `path` again, with another data.pkl and true CRCs.
void replace_pickle(const std::string& path, const std::string& from, const std::string& pickle) {
    const std::string bytes = read_file(from);
    ZipWriter zip(path);
    for (const ZipMember& m : read_zip(bytes, from, "zip"))
        zip.add(m.name, m.name == "archive/data.pkl" ? std::string_view(pickle) : m.payload);
    zip.write();
}

std::string little_endian(int n) {
    std::string bytes;
    append_number(bytes, static_cast<int32_t>(n));
    return bytes;
}

// The pickle opcode that pushes a string.
std::string unicode(const std::string& text) {
    return std::string("X").append(little_endian(static_cast<int>(text.size()))).append(text);
}

// Reads a possibly broken file: a sieve::Error is fine, anything else is not.
bool reads(const std::string& path) {
    try {
        read_pt(path);
        return true;
    } catch (const Error& e) {
        CHECK(std::string(e.what()).starts_with(path));
        return false;
    }
}

}  // namespace

TEST_CASE("pt: tensors, order, tied storage and extra members survive") {
    const TemporaryFolder folder;
    const NamedTensors tensors = sample_tensors();
    const std::map<std::string, std::string> extra = {{"config.json", "{}"}, {"rng", std::string("\0\1", 2)}};
    write_pt(folder / "x.pt", tensors, extra);
    const PtFile file = read_pt(folder / "x.pt");
    REQUIRE(file.tensors.size() == tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
        CHECK(file.tensors[i].name == tensors[i].name);
        CHECK(bit_identical(file.tensors[i].tensor, tensors[i].tensor));
    }
    CHECK(at(file.tensors, "embed.weight").is_same(at(file.tensors, "lm_head.weight")));
    CHECK(file.extra == extra);
    const std::string bytes = read_file(folder / "x.pt");
    size_t storages = 0;
    for (const ZipMember& m : read_zip(bytes, "x.pt", "zip")) {
        CHECK((m.payload.data() - bytes.data()) % 64 == 0);
        storages += m.name.starts_with("archive/data/");
    }
    CHECK(storages == 7);
    check_error("write_pt: the name a appears twice", [&] {
        write_pt(folder / "y.pt", {{"a", Tensor::zeros({1})}, {"a", Tensor::zeros({1})}});
    });
}

TEST_CASE("pt: an empty state dict") {
    const TemporaryFolder folder;
    write_pt(folder / "x.pt", {});
    CHECK(read_pt(folder / "x.pt").tensors.empty());
}

TEST_CASE("pt: foreign, truncated and damaged files are refused in one line") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.pt";
    write_file_atomic(path, "hello");
    check_error(path + ": not a PyTorch zip checkpoint (truncated or another format)",
                [&] { read_pt(path); });
    write_pt(path, sample_tensors());
    std::string bytes = read_file(path);
    write_file_atomic(path, bytes.substr(0, bytes.size() - 1));
    check_error(path + ": not a PyTorch zip checkpoint (truncated or another format)",
                [&] { read_pt(path); });
    const std::string payload = member((write_file_atomic(path, bytes), path), "archive/data/0");
    bytes[bytes.find(payload)] ^= 1;
    write_file_atomic(path, bytes);
    check_error(path + ": member archive/data/0 is damaged (its CRC-32 does not match)",
                [&] { read_pt(path); });
    ZipWriter zip(path);
    zip.add("a/b", "c");
    zip.write();
    check_error(path + ": not a PyTorch zip checkpoint (it has no member data.pkl)", [&] { read_pt(path); });
}

TEST_CASE("pt: pickles are read as data, never executed") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.pt", good = folder / "good.pt";
    write_pt(good, sample_tensors());
    const auto check_pickle = [&](const std::string& pickle, const std::string& sentence) {
        replace_pickle(path, good, pickle);
        check_error(path + ": " + sentence, [&] { read_pt(path); });
    };
    const std::string proto = "\x80\x02";
    check_pickle(proto + "cos\nsystem\n(" + unicode("ls") + "tR.",
                 "refers to os.system, which this reader does not accept (it executes nothing)");
    check_pickle(proto + "i.", "its pickle uses opcode 0x69, which this reader does not accept");
    check_pickle("\x80\x04.", "pickled with protocol 4, want 2 (torch.save's default)");
    check_pickle(proto + "K\x01.", "holds an int, want a state dict");
    check_pickle(proto + ".", "its pickle is damaged");
    check_pickle(proto + "}K\x01K\x02s.", "a key of the state dict is an int, want a str");
    check_pickle(proto + "}" + unicode("step") + "K\x03s.",
                 "entry \"step\" of the state dict is an int, want a tensor");
    check_pickle(proto + "]q\1h\1a.", "holds a list, want a state dict");  // a list in itself
    check_pickle(proto + "ccollections\nOrderedDict\nK\x01\x85R.",
                 "calls collections.OrderedDict in a way that this reader does not accept");
}

TEST_CASE("pt: a view outside its storage, a repeated element and a wrong length are refused") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.pt", good = folder / "good.pt";
    write_pt(good, {{"w", Tensor::zeros({6})}});
    const auto pickle_with = [](int count, int offset, const std::vector<int>& sizes,
                                const std::vector<int>& strides) {
        const auto number = [](int n) { return std::string("J") + little_endian(n); };
        const auto tuple = [&](const std::vector<int>& values) {
            std::string text = "(";
            for (const int v : values) text += number(v);
            return text + "t";
        };
        return "\x80\x02}" + unicode("w") + "ctorch._utils\n_rebuild_tensor_v2\n((" + unicode("storage") +
               "ctorch\nFloatStorage\n" + unicode("0") + unicode("cpu") + number(count) + "tQ" +
               number(offset) + tuple(sizes) + tuple(strides) + "tRs.";
    };
    const auto try_view = [&](int count, int offset, std::vector<int> sizes, std::vector<int> strides) {
        replace_pickle(path, good, pickle_with(count, offset, sizes, strides));
        return reads(path);
    };
    CHECK(try_view(6, 0, {6}, {1}));
    CHECK(try_view(6, 2, {2, 2}, {1, 2}));
    CHECK(try_view(6, 5, {1, 1}, {60, 60}));
    CHECK(!try_view(6, 1, {6}, {1}));
    CHECK(!try_view(6, 0, {2, 2}, {1, 5}));
    CHECK(!try_view(6, 0, {7}, {0}));
    CHECK(!try_view(5, 0, {5}, {1}));
    CHECK(!try_view(6, 0, {6}, {1, 1}));
    CHECK(!try_view(6, 0, {1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1}));
    CHECK(!try_view(6, 0, {60000, 60000, 60000, 60000, 0}, {0, 0, 0, 0, 0}));
}

TEST_CASE("pt: truncated or with flipped bytes, only an Error comes out") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.pt", good = folder / "good.pt";
    write_pt(good, sample_tensors());
    const std::string whole = read_file(good);
    for (size_t size = 0; size < whole.size(); size += 97) {
        write_file_atomic(path, whole.substr(0, size));
        CHECK(!reads(path));
    }
    for (size_t i = 0; i < whole.size(); i += 13) {
        std::string bytes = whole;
        bytes[i] = static_cast<char>(bytes[i] ^ (1 + i % 255));
        write_file_atomic(path, bytes);
        reads(path);
    }
    // The same inside the pickle, with true CRCs around it.
    const std::string pickle = member(good, "archive/data.pkl");
    for (size_t i = 0; i < pickle.size(); ++i) {
        std::string bytes = pickle;
        bytes[i] = static_cast<char>(philox({3, 1}, i).v[0]);
        replace_pickle(path, good, bytes);
        reads(path);
        MemoryBudget budget(pickle.size(), "x");
        CHECK_THROWS_AS(read_pickle(std::string_view(pickle).substr(0, i), "x", budget), Error);
    }
}

namespace {

// Flips one bit after the other in the file and back, and calls f(byte, bit) in between.
void flip_each_bit(const std::string& path, const std::function<void(size_t, int)>& f) {
    const std::string whole = read_file(path);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const auto put = [&](size_t at, int byte) {
        file.seekp(static_cast<std::streamoff>(at));
        file.put(static_cast<char>(byte)).flush();
    };
    for (size_t at = 0; at < whole.size(); ++at) {
        for (int bit = 0; bit < 8; ++bit) {
            put(at, whole[at] ^ 1 << bit);
            f(at, bit);
        }
        put(at, whole[at]);
    }
    REQUIRE(read_file(path) == whole);
}

}  // namespace

TEST_CASE("pt: every flipped bit of a file of ours is found, and every truncation") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.pt";
    const Tensor w = Tensor::from<float>({1, 2, 3}, {3});
    write_pt(path, {{"w", w}, {"tied", w}, {"n", Tensor::from<int64_t>({7}, {1})}}, {{"config.json", "{}"}});
    size_t flipped = 0, found = 0;
    flip_each_bit(path, [&](size_t at, int bit) {
        ++flipped;
        if (reads(path))
            FAIL_CHECK("bit " << bit << " of byte " << at << " was not found");
        else
            ++found;
    });
    const std::string whole = read_file(path);
    CHECK(flipped == 8 * whole.size());
    for (size_t size = 0; size < whole.size(); ++size) {
        std::filesystem::resize_file(path, size);
        CHECK(!reads(path));
        std::ofstream(path, std::ios::binary) << whole;
    }
    for (const char* more : {"x", "PK", "0123456789012345678901234567890"}) {
        std::ofstream(path, std::ios::binary) << whole << more;
        CHECK(!reads(path));
    }
    fmt::print(".pt: {} of {} flipped bits and {} truncations found\n", found, flipped, whole.size());
}

TEST_CASE("pt: an archive that another program added a member to is read, a changed one is not") {
    const auto python = python_with("zipfile");
    if (!python) return skip("no Python");
    const TemporaryFolder folder;
    write_pt(folder / "x.pt", {{"w", Tensor::from<float>({1, 2, 3}, {3})}}, {{"config.json", "{}"}});
    std::string output;
    const int status = run_python(*python, R"(
import zipfile
with zipfile.ZipFile('x.pt', 'a') as z: z.writestr('archive/notes', 'mine')
)",
                                  folder.path().string(), output);
    REQUIRE_MESSAGE(status == 0, output);
    CHECK(bit_identical(read_pt(folder / "x.pt").tensors.at(0).tensor, Tensor::from<float>({1, 2, 3}, {3})));
    std::string bytes = read_file(folder / "x.pt");
    bytes[10] ^= 1;  // the time of the first member
    write_file_atomic(folder / "x.pt", bytes);
    check_error(folder / "x.pt" + ": member archive/data.pkl is damaged (its header is not what was written)",
                [&] { read_pt(folder / "x.pt"); });
}

TEST_CASE("zip: members that share bytes are refused") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.npz";
    ZipWriter zip(path);
    zip.add_owned("a", std::string(100, 'a'));
    zip.write();
    // The second entry is the first one under a name that stands inside the first one's payload.
    std::string bytes = read_file(path);
    const size_t header = 0, directory = bytes.rfind("PK\1\2");
    const std::string local = bytes.substr(header, 30) + "b" + bytes.substr(31, 33);
    std::string inner = local;
    bytes.replace(64, 64, inner);
    std::string entry = bytes.substr(directory, 47);
    entry[46] = 'b';
    entry[42] = 64;
    for (const size_t place : {20, 24}) entry[place] = 20;
    bytes.insert(directory + 47, entry);
    const size_t end = bytes.rfind("PK\5\6");
    bytes[end + 8] = bytes[end + 10] = 2;
    bytes[end + 12] = 94;
    check_error("x: member b overlaps a", [&] { read_zip(bytes, "x", "zip"); });
}

TEST_CASE("pt: names that share a storage in many ways cannot take more memory than the file has") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.pt", good = folder / "good.pt";
    const int count = 1 << 20;
    write_pt(good, {{"w", Tensor::zeros({count})}});
    const auto number = [](int n) { return "J" + little_endian(n); };
    std::string pickle = "\x80\x02}(";
    for (int i = 0; i < 100; ++i)
        pickle += unicode("w" + std::to_string(i)) + "ctorch._utils\n_rebuild_tensor_v2\n((" +
                  unicode("storage") + "ctorch\nFloatStorage\n" + unicode("0") + unicode("cpu") +
                  number(count) + "tQ" + number(i) + number(count - i) + "\x85" + number(1) + "\x85tR";
    replace_pickle(path, good, pickle + "u.");
    check_error(path + ": refused, as reading it would take far more memory than a file of its size needs",
                [&] { read_pt(path); });
}

TEST_CASE("pt: torch.load reads ours, with values, strides and ties") {
    const auto python = python_with_torch();
    if (!python) return skip("no Python with PyTorch found");
    const TemporaryFolder folder;
    NamedTensors tensors = sample_tensors();
    tensors.push_back({"counted", Tensor::from<float>({0, 1, 2, 3, 4, 5}, {2, 3})});
    write_pt(folder / "x.pt", tensors, {{"config.json", "{}"}});
    std::string output;
    const int status = run_python(*python, R"(
import collections, torch, zipfile
d = torch.load('x.pt')
assert isinstance(d, collections.OrderedDict)
assert list(d) == ['embed.weight', 'double', 'long', 'int', 'byte', 'empty', 'scalar', 'lm_head.weight', 'counted']
assert d['counted'].equal(torch.arange(6.0).view(2, 3)) and d['counted'].is_contiguous()
assert d['embed.weight'].data_ptr() == d['lm_head.weight'].data_ptr()
assert d['double'].dtype == torch.float64 and d['double'].shape == (2, 1, 4)
assert d['long'].tolist() == [-1, 1 << 40] and d['int'].tolist() == [3, -4, 5] and d['int'].dtype == torch.int32
assert d['byte'].tolist() == [[0, 255]] and d['byte'].dtype == torch.uint8
assert d['empty'].shape == (0, 3) and d['scalar'].shape == () and d['scalar'].item() == 2.5
assert zipfile.ZipFile('x.pt').testzip() is None
torch.save(d, 'again.pt')
)",
                                  folder.path().string(), output);
    REQUIRE_MESSAGE(status == 0, output);
    const PtFile again = read_pt(folder / "again.pt");
    for (const auto& [name, tensor] : tensors) CHECK(bit_identical(at(again.tensors, name), tensor));
}

TEST_CASE("pt: we read what torch.save writes") {
    const auto python = python_with_torch();
    if (!python) return skip("no Python with PyTorch found");
    const TemporaryFolder folder;
    std::string output;
    const int status = run_python(*python, R"(
import torch
class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(4, 3)
        self.lm_head = torch.nn.Linear(3, 4, bias=False)
        self.lm_head.weight = self.embed.weight
        with torch.no_grad(): self.embed.weight.copy_(torch.arange(12.0).view(4, 3))
model = Tied()
torch.save(model.state_dict(), 'module.pt')
torch.save({'step': 3, 'lr': 0.5, 'best': None, 'model_state_dict': model.state_dict(), 'seen': torch.tensor(9),
            'optimizer_state_dict': torch.optim.AdamW(model.parameters()).state_dict()}, 'nested.pt')
x = torch.arange(12.0).view(3, 4)
torch.save({'transposed': x.t(), 'part': x[1:, 1::2], 'half': torch.tensor([0.5, -65504, 6e-8, 1 / 3, float('inf')]).half(),
            'bf16': torch.tensor([1.5, -3e38, 1e-40]).bfloat16(), 'bool': torch.tensor([True, False]),
            'parameter': torch.nn.Parameter(x), 'scalar': torch.tensor(7)}, 'kinds.pt')
torch.save({'half': torch.load('kinds.pt')['half'].float(), 'bf16': torch.load('kinds.pt')['bf16'].float()}, 'wide.pt')
torch.save([x], 'list.pt')
torch.save({'a': x.to(torch.int16)}, 'int16.pt')
torch.save(model, 'whole.pt')
torch.save({'x': x}, 'old.pt', _use_new_zipfile_serialization=False)
)",
                                  folder.path().string(), output);
    REQUIRE_MESSAGE(status == 0, output);
    std::vector<float> counted(12);
    for (size_t i = 0; i < 12; ++i) counted[i] = static_cast<float>(i);
    for (const char* file : {"module.pt", "nested.pt"}) {
        const NamedTensors tensors = read_pt(folder / file).tensors;
        REQUIRE(tensors.size() == 2);
        CHECK(bit_identical(at(tensors, "embed.weight"), Tensor::from(counted, {4, 3})));
        CHECK(at(tensors, "embed.weight").is_same(at(tensors, "lm_head.weight")));
    }
    const NamedTensors kinds = read_pt(folder / "kinds.pt").tensors,
                       wide = read_pt(folder / "wide.pt").tensors;
    CHECK(bit_identical(at(kinds, "transposed"),
                        Tensor::from<float>({0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11}, {4, 3})));
    CHECK(bit_identical(at(kinds, "part"), Tensor::from<float>({5, 7, 9, 11}, {2, 2})));
    CHECK(bit_identical(at(kinds, "half"), at(wide, "half")));
    CHECK(bit_identical(at(kinds, "bf16"), at(wide, "bf16")));
    CHECK(bit_identical(at(kinds, "bool"), Tensor::from<uint8_t>({1, 0}, {2})));
    CHECK(bit_identical(at(kinds, "parameter"), Tensor::from(counted, {3, 4})));
    CHECK(at(kinds, "scalar").item() == 7);
    check_error(folder / "list.pt" + ": holds a list, want a state dict",
                [&] { read_pt(folder / "list.pt"); });
    check_error(folder / "int16.pt" +
                    ": refers to torch.ShortStorage, which this reader does not accept (it executes nothing)",
                [&] { read_pt(folder / "int16.pt"); });
    check_error(folder / "whole.pt" +
                    ": refers to __main__.Tied, which this reader does not accept (it executes nothing)",
                [&] { read_pt(folder / "whole.pt"); });
    check_error(folder / "old.pt" + ": not a PyTorch zip checkpoint (truncated or another format)",
                [&] { read_pt(folder / "old.pt"); });
}
