// __shared__ declares, beside the variable, a marker constant (cuda_runtime.h). Both are local to a function,
// so that their mangled names are _ZZ<function>E<name>: every variable of a function that has a marker is a
// shared one.
#include "tests/cuda_emulation/symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string_view>

namespace sieve::cuda_emulation {

namespace {

struct Symbol {
    std::string_view name;  // mangled; it ends with a zero
    char* address;
    size_t bytes;
    bool is_function;
    int file;  // see SharedVariable
};

// Where the program was loaded, relative to the addresses in its file.
uintptr_t load_offset() {
    uintptr_t offset = 0;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* result) {
            *static_cast<uintptr_t*>(result) = info->dlpi_addr;
            return 1;  // the first object is the program
        },
        &offset);
    return offset;
}

// The program's file, mapped for good: names point into it.
std::string_view map_program() {
    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (file < 0 || fstat(file, &status) != 0) return {};
    const size_t bytes = status.st_size;
    const void* mapping = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (mapping == MAP_FAILED || bytes < sizeof(ElfW(Ehdr))) return {};
    return {static_cast<const char*>(mapping), bytes};
}

std::vector<Symbol> read_symbols() {
    const std::string_view image = map_program();
    std::vector<Symbol> result;
    if (image.empty()) return result;
    auto at = [&](size_t offset, auto& value) { std::memcpy(&value, image.data() + offset, sizeof value); };
    ElfW(Ehdr) header;
    at(0, header);
    auto section = [&](size_t index) {
        ElfW(Shdr) value;
        at(header.e_shoff + index * header.e_shentsize, value);
        return value;
    };
    const uintptr_t offset = load_offset();
    for (size_t i = 0; i < header.e_shnum; ++i) {
        const ElfW(Shdr) table = section(i);
        if (table.sh_type != SHT_SYMTAB) continue;
        int file = 0;
        const char* names = image.data() + section(table.sh_link).sh_offset;
        for (size_t s = 0; s < table.sh_size; s += sizeof(ElfW(Sym))) {
            ElfW(Sym) symbol;
            at(table.sh_offset + s, symbol);
            const int type = symbol.st_info & 15;
            if (type == STT_FILE) ++file;
            if (symbol.st_shndx == SHN_UNDEF || (type != STT_FUNC && type != STT_OBJECT)) continue;
            result.push_back({.name = names + symbol.st_name,
                              .address = reinterpret_cast<char*>(symbol.st_value + offset),
                              .bytes = symbol.st_size,
                              .is_function = type == STT_FUNC,
                              .file = symbol.st_info >> 4 == STB_LOCAL ? file : 0});
        }
    }
    return result;
}

const std::vector<Symbol>& symbols() {
    static const std::vector<Symbol> all = read_symbols();
    return all;
}

// <function> and <name> of _ZZ<function>E<name>, where the name is a plain one (a length and letters) and the
// last part.
bool split_local(std::string_view mangled, std::string_view& function, std::string_view& name) {
    if (mangled.compare(0, 3, "_ZZ") != 0) return false;
    for (size_t e = mangled.rfind('E'); e != std::string::npos && e > 3; e = mangled.rfind('E', e - 1)) {
        char* end = nullptr;
        const size_t length = std::strtoul(mangled.data() + e + 1, &end, 10);
        const size_t start = end - mangled.data();
        if (length == 0 || start == e + 1 || start + length > mangled.size()) continue;
        const bool is_last = start + length == mangled.size() || mangled[start + length] == '_';
        if (!is_last) continue;
        function = mangled.substr(3, e - 3);
        name = mangled.substr(start, length);
        return true;
    }
    return false;
}

std::vector<SharedVariable> find_shared_variables() {
    struct Local {
        const Symbol* symbol;
        std::string_view function, name;
    };
    std::vector<Local> locals;
    std::set<std::string_view> marked;
    for (const Symbol& symbol : symbols()) {
        Local local{.symbol = &symbol, .function = {}, .name = {}};
        if (symbol.is_function || !split_local(symbol.name, local.function, local.name)) continue;
        if (local.name.rfind("sieve_shared_marker_", 0) == 0)
            marked.insert(local.function);
        else
            locals.push_back(local);
    }
    std::vector<SharedVariable> result;
    for (const Local& local : locals)
        if (marked.count(local.function))
            result.push_back({.owner = std::string(local.function),
                              .file = local.symbol->file,
                              .address = local.symbol->address,
                              .bytes = local.symbol->bytes});
    return result;
}

// Null when it is not known.
const Symbol* find_function(const void* address) {
    static const std::map<const void*, const Symbol*> functions = [] {
        std::map<const void*, const Symbol*> result;
        for (const Symbol& symbol : symbols())
            if (symbol.is_function && symbol.name.rfind("_Z", 0) == 0)
                result.emplace(symbol.address, &symbol);
        return result;
    }();
    const auto found = functions.find(address);
    return found == functions.end() ? nullptr : found->second;
}

}  // namespace

const std::vector<SharedVariable>& shared_variables() {
    static const std::vector<SharedVariable> all = find_shared_variables();
    return all;
}

size_t static_shared_bytes(const void* kernel) {
    static std::map<const void*, size_t> known;
    const auto [entry, is_new] = known.try_emplace(kernel, 0);
    const Symbol* function = is_new ? find_function(kernel) : nullptr;
    if (!function) return entry->second;
    for (const SharedVariable& variable : shared_variables()) {
        const bool same_file = variable.file == 0 || function->file == 0 || variable.file == function->file;
        if (same_file && "_Z" + variable.owner == function->name) entry->second += variable.bytes;
    }
    return entry->second;
}

std::string kernel_name(const void* kernel) {
    static std::map<const void*, std::string> known;
    const auto [entry, is_new] = known.try_emplace(kernel);
    const Symbol* function = is_new ? find_function(kernel) : nullptr;
    if (!function) return entry->second;
    const std::unique_ptr<char, void (*)(void*)> text(
        abi::__cxa_demangle(function->name.data(), nullptr, nullptr, nullptr), std::free);
    std::string name = text ? text.get() : std::string(function->name);
    // Names of templates begin with the return type and end with the parameters.
    if (name.rfind("void ", 0) == 0) name.erase(0, 5);
    int depth = 0;
    for (size_t i = name.size(); i-- > 0;) {
        depth += name[i] == ')' ? 1 : name[i] == '(' ? -1 : 0;
        if (name[i] == '(' && depth == 0) {
            name.erase(i);
            break;
        }
    }
    return entry->second = name;
}

}  // namespace sieve::cuda_emulation
