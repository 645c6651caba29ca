// Pickles that would run something in Python, or that were made to break whoever reads them. All of them are
// harmless here and there: what they refer to prints a word or asks for the working folder. Each must be
// refused in one line, with the exit code of a bad file.
#include <fmt/format.h>

#include <fstream>

#include "framework/core/error.h"
#include "framework/io/little_endian.h"
#include "framework/io/pt.h"
#include "framework/io/zip.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

using namespace std::string_literals;

// Opcodes, as Python's pickletools names them.
std::string proto(char version) {
    return "\x80"s + version;
}
std::string global(const std::string& module, const std::string& name) {
    return "c" + module + "\n" + name + "\n";
}
std::string text(const std::string& content) {  // BINUNICODE
    std::string opcode = "X";
    append_number(opcode, static_cast<uint32_t>(content.size()));
    return opcode + content;
}
std::string short_text(const std::string& content) {  // SHORT_BINUNICODE
    return "\x8c"s + static_cast<char>(content.size()) + content;
}
std::string frame(const std::string& content) {  // FRAME, protocol 4
    std::string opcode = "\x95";
    append_number(opcode, uint64_t{content.size()});
    return opcode + content;
}
std::string number(int32_t n) {  // BININT
    std::string opcode = "J";
    append_number(opcode, n);
    return opcode;
}
// GLOBAL, arguments, REDUCE.
std::string call(const std::string& module, const std::string& name, const std::string& arguments) {
    return global(module, name) + "(" + arguments + "tR";
}
std::string storage_id(const std::string& type, const std::string& key, int32_t count) {
    return "(" + text("storage") + global("torch", type) + text(key) + text("cpu") + number(count) + "t";
}
std::string tensor(const std::string& storage, int32_t offset, const std::string& sizes,
                   const std::string& strides) {
    return global("torch._utils", "_rebuild_tensor_v2") + "(" + storage + number(offset) + "(" + sizes +
           "t(" + strides + "t\x89" + call("collections", "OrderedDict", "") + "tR";
}
std::string dict_with(const std::string& value) {
    return "}" + text("w") + value + "s";
}

const std::string system_call = call("os", "system", text("echo refused"));
const std::string good_tensor = tensor(storage_id("FloatStorage", "0", 4) + "Q", 0, number(4), number(1));

struct Malice {
    const char* what;
    std::string pickle;
};

std::vector<Malice> all_malice() {
    const std::string p2 = proto(2);
    return {
        {"os.system", p2 + system_call + "."},
        {"posix.system", p2 + call("posix", "system", text("echo refused")) + "."},
        {"builtins.eval", p2 + call("builtins", "eval", text("print")) + "."},
        {"builtins.exec", p2 + call("builtins", "exec", text("pass")) + "."},
        {"__builtin__.eval, as Python 2 has it", p2 + call("__builtin__", "eval", text("print")) + "."},
        {"posix.getcwd", p2 + call("posix", "getcwd", "") + "."},
        {"subprocess.Popen", p2 + call("subprocess", "Popen", text("true")) + "."},
        {"runpy", p2 + call("runpy", "_run_code", text("pass") + "}") + "."},
        {"importlib", p2 + call("importlib", "import_module", text("this")) + "."},
        {"builtins.getattr on a module",
         p2 + call("builtins", "getattr", global("os", "path") + text("join")) + "."},
        {"builtins.__import__", p2 + call("builtins", "__import__", text("this")) + "."},
        {"functools.partial", p2 + call("functools", "partial", global("builtins", "print")) + "."},
        {"webbrowser.open", p2 + call("webbrowser", "open", text("about:blank")) + "."},
        {"torch.load inside torch.load", p2 + call("torch", "load", text("x.pt")) + "."},
        {"torch.storage._load_from_bytes", p2 + call("torch.storage", "_load_from_bytes", text("x")) + "."},
        {"a dotted name behind an allowed module",
         p2 + call("torch._utils", "_rebuild_tensor_v2.__class__", "") + "."},
        {"an allowed name with a line feed", p2 + "ccollections\r\nOrderedDict\n)R."},
        {"an allowed name in another case", p2 + call("collections", "ordereddict", "") + "."},
        {"a call as the value of a tensor's entry", p2 + dict_with(system_call) + "."},
        {"a call as a key", p2 + "}" + system_call + good_tensor + "s."},
        {"a call among a tensor's sizes",
         p2 + dict_with(tensor(storage_id("FloatStorage", "0", 4) + "Q", 0, system_call, number(1))) + "."},
        {"a call as a storage's key", p2 +
                                          dict_with("(" + text("storage") + global("torch", "FloatStorage") +
                                                    system_call + text("cpu") + number(4) + "tQ") +
                                          "."},
        {"calls inside calls",
         p2 + call("builtins", "print", call("builtins", "print", call("posix", "getcwd", ""))) + "."},
        {"a call of what a call gave", p2 + call("builtins", "getattr", text("x")) + "(tR."},
        {"a call of a string", p2 + text("os.system") + ")R."},
        {"a call of a dict", p2 + "})R."},
        {"a call without a tuple", p2 + global("collections", "OrderedDict") + "]R."},
        {"OrderedDict with arguments", p2 + call("collections", "OrderedDict", "]") + "."},
        {"a tensor of something else",
         p2 + dict_with(global("torch._utils", "_rebuild_tensor_v2") + "(}K\x00))tR"s) + "."},
        {"a Parameter of something else",
         p2 + dict_with(call("torch._utils", "_rebuild_parameter", "}")) + "."},
        {"BUILD on a tensor", p2 + dict_with(good_tensor + "}b") + "."},
        {"BUILD on a class", p2 + global("collections", "OrderedDict") + "}b."},
        {"BUILD with __setstate__ of a global",
         p2 + global("builtins", "print") + "}" + text("__setstate__") + global("os", "system") + "sb."},
        {"INST", p2 + "(" + text("echo refused") + "ios\nsystem\n."},
        {"OBJ", p2 + "(" + global("os", "system") + text("echo refused") + "o."},
        {"NEWOBJ", p2 + global("collections", "OrderedDict") + ")\x81."},
        {"NEWOBJ_EX", p2 + global("collections", "OrderedDict") + ")}\x92."},
        {"STACK_GLOBAL", p2 + text("os") + text("system") + "\x93."},
        {"EXT1", p2 + "\x82\x01."},
        {"EXT2", p2 + "\x83\x01\x02."s},
        {"EXT4", p2 + "\x84\x01\x02\x03\x04."},
        {"protocol 4 with frames and STACK_GLOBAL",
         proto(4) + frame(short_text("os") + "\x94" + short_text("system") + "\x94\x93\x94" +
                          short_text("echo refused") + "\x94\x85\x94R\x94.")},
        {"protocol 5 with an out-of-band buffer", proto(5) + frame("\x97\x98.")},
        {"protocol 0", "cos\nsystem\n(S'echo refused'\ntR."},
        {"a PROTO in the middle, of another protocol", p2 + dict_with(good_tensor) + proto(4) + "."},
        {"a persistent id of text (PERSID)", p2 + dict_with("Pos.system\n") + "."},
        {"a persistent id of another kind",
         p2 +
             dict_with("(" + text("module") + global("torch", "FloatStorage") + text("0") + text("cpu") +
                       number(4) + "tQ") +
             "."},
        {"a persistent id with a path as its key",
         p2 +
             dict_with(tensor(storage_id("FloatStorage", "../../../etc/passwd", 4) + "Q", 0, number(4),
                              number(1))) +
             "."},
        {"a state dict that holds itself", p2 + "}q\x00"s + text("model") + "h\x00s."s},
        {"a tensor beyond its storage",
         p2 + dict_with(tensor(storage_id("FloatStorage", "0", 4) + "Q", 1, number(4), number(1))) + "."},
    };
}

}  // namespace

TEST_CASE("pt: 50 of 50 malicious pickles are refused") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.pt", elements(16, '\0');
    const auto write_with = [&](const std::string& pickle) {
        ZipWriter zip(path);
        zip.add("archive/data.pkl", pickle);
        zip.add("archive/data/0", elements);
        zip.add("archive/version", "3\n");
        zip.write();
    };
    write_with(proto(2) + dict_with(good_tensor) + ".");
    CHECK(read_pt(path).tensors.size() == 1);  // so that none of them is refused for its surroundings
    const std::vector<Malice> all = all_malice();
    CHECK(all.size() == 50);
    size_t refused = 0;
    for (const Malice& malice : all) {
        INFO(malice.what);
        write_with(malice.pickle);
        try {
            read_pt(path);
            FAIL_CHECK("it was read");
        } catch (const Error& e) {
            CHECK(e.kind() == ErrorKind::bad_file);
            CHECK(std::string(e.what()).starts_with(path + ": "));
            CHECK(std::string(e.what()).size() < path.size() + 200);
            ++refused;
        }
    }
    fmt::print("malicious pickles: {} of {} refused\n", refused, all.size());
}
