#include "framework/io/pt.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_map>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/little_endian.h"
#include "framework/io/pickle.h"
#include "framework/io/tensor_bytes.h"
#include "framework/io/zip.h"

namespace sieve {
namespace {

using Kind = PickleValue::Kind;

const std::string root_folder = "archive/", extra_folder = "sieve/";

const char* storage_name(DType dtype) {
    switch (dtype) {
        case DType::float32:
            return "FloatStorage";
        case DType::float64:
            return "DoubleStorage";
        case DType::int32:
            return "IntStorage";
        case DType::int64:
            return "LongStorage";
        case DType::uint8:
            return "ByteStorage";
    }
    return "?";
}

// Writes the pickle of an OrderedDict of tensors, opcode by opcode (Python's pickletools names them).
class StateDictPickler {
  public:
    StateDictPickler() : bytes_("\x80\x02") {
        empty_ordered_dict();
        bytes_ += '(';
    }

    void add(const std::string& name, const Tensor& tensor, const std::string& storage_key) {
        string(name);
        global("torch._utils", "_rebuild_tensor_v2");
        bytes_ += '(';
        storage(tensor, storage_key);
        integer(0);  // offset
        std::vector<int64_t> sizes(tensor.shape().begin(), tensor.shape().end()), strides(sizes.size());
        int64_t stride = 1;
        for (size_t i = sizes.size(); i-- > 0; stride *= std::max<int64_t>(1, sizes[i])) strides[i] = stride;
        tuple(sizes);
        tuple(strides);
        bytes_ += '\x89';      // requires_grad = False
        empty_ordered_dict();  // backward hooks
        bytes_ += "tR";
    }

    std::string finish() { return std::move(bytes_) + "u."; }

  private:
    void global(const std::string& module, const std::string& name) {
        bytes_ += "c" + module + "\n" + name + "\n";
    }

    void empty_ordered_dict() {
        global("collections", "OrderedDict");
        bytes_ += ")R";
    }

    void string(const std::string& text) {
        bytes_ += 'X';
        append_number(bytes_, static_cast<uint32_t>(text.size()));
        bytes_ += text;
    }

    void integer(int64_t value) {
        if (value <= std::numeric_limits<int32_t>::max()) {
            bytes_ += 'J';
            append_number(bytes_, static_cast<int32_t>(value));
        } else {
            bytes_ += "\x8a\x08";
            append_number(bytes_, value);
        }
    }

    void tuple(const std::vector<int64_t>& values) {
        bytes_ += '(';
        for (const int64_t value : values) integer(value);
        bytes_ += 't';
    }

    void storage(const Tensor& tensor, const std::string& key) {
        bytes_ += '(';
        string("storage");
        global("torch", storage_name(tensor.dtype()));
        string(key);
        string("cpu");
        integer(tensor.numel());
        bytes_ += "tQ";
    }

    std::string bytes_;
};

// Gives each tensor the key of its storage; `storages` receives one tensor for each key.
std::string pickle_state_dict(const NamedTensors& tensors, std::vector<Tensor>& storages) {
    std::map<std::tuple<const void*, std::string, DType>, size_t> seen;
    std::set<std::string> names;
    StateDictPickler pickler;
    for (const auto& [name, tensor] : tensors) {
        if (!names.insert(name).second) fail("write_pt: the name " + name + " appears twice");
        const auto identity = std::make_tuple(tensor.raw(), to_string(tensor.shape()), tensor.dtype());
        const auto [at, is_new] = seen.try_emplace(identity, storages.size());
        if (is_new) storages.push_back(tensor);
        pickler.add(name, tensor, std::to_string(at->second));
    }
    return pickler.finish();
}

}  // namespace

void write_pt(const std::string& path, const NamedTensors& tensors,
              const std::map<std::string, std::string>& extra_members) {
    std::vector<Tensor> storages;
    ZipWriter zip(path);
    zip.add_owned(root_folder + "data.pkl", pickle_state_dict(tensors, storages));
    zip.add(root_folder + "byteorder", "little");
    for (size_t i = 0; i < storages.size(); ++i)
        zip.add(root_folder + "data/" + std::to_string(i), bytes_of(storages[i]));
    zip.add(root_folder + "version", "3\n");
    for (const auto& [key, content] : extra_members) zip.add(root_folder + extra_folder + key, content);
    zip.write();
}

namespace {

// How the elements of a storage are read.
struct ElementType {
    DType dtype;
    size_t bytes;  // in the file
    std::optional<NarrowFloat> half;
};

ElementType element_type(std::string_view storage_type, const std::string& path) {
    static const std::unordered_map<std::string_view, ElementType> types = {
        {"torch.FloatStorage", {DType::float32, 4, {}}},
        {"torch.DoubleStorage", {DType::float64, 8, {}}},
        {"torch.IntStorage", {DType::int32, 4, {}}},
        {"torch.LongStorage", {DType::int64, 8, {}}},
        {"torch.ByteStorage", {DType::uint8, 1, {}}},
        {"torch.BoolStorage", {DType::uint8, 1, {}}},
        {"torch.HalfStorage", {DType::float32, 2, NarrowFloat::float16}},
        {"torch.BFloat16Storage", {DType::float32, 2, NarrowFloat::bfloat16}}};
    const auto found = types.find(storage_type);
    if (found == types.end())
        fail_bad_file(path + ": a tensor has the storage type " + std::string(storage_type));
    return found->second;
}

// Where the elements of a tensor lie in its storage, in elements.
struct View {
    int64_t offset = 0;
    std::vector<int64_t> sizes, strides;
    auto operator<=>(const View&) const = default;  // NOLINT(modernize-use-nullptr): a false alarm

    int64_t numel() const {
        return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
    }
    Shape shape() const {
        Shape shape;
        for (const int64_t size : sizes) shape.append(size);
        return shape;
    }
    // Calls f(where) for each element in row-major order. The view has been checked.
    template <class F>
    void for_each(F&& f) const {
        std::vector<int64_t> index(sizes.size(), 0);
        int64_t at = offset;
        for (int64_t i = 0, count = numel(); i < count; ++i) {
            f(static_cast<size_t>(at));
            for (size_t d = index.size(); d-- > 0;) {
                if (sizes[d] == 1) continue;  // whose stride may be any number
                if (++index[d] < sizes[d]) {
                    at += strides[d];
                    break;
                }
                at -= (sizes[d] - 1) * strides[d];
                index[d] = 0;
            }
        }
    }
    bool is_contiguous() const {
        if (numel() == 0) return true;
        int64_t stride = 1;
        for (size_t d = sizes.size(); d-- > 0; stride *= sizes[d])
            if (sizes[d] != 1 && strides[d] != stride) return false;
        return true;
    }
};

class CheckpointReader {
  public:
    CheckpointReader(std::string_view bytes, const std::string& path)
        : path_(path),
          budget_(bytes.size(), path),
          members_(read_zip(bytes, path, "PyTorch zip checkpoint")) {
        std::sort(members_.begin(), members_.end(),
                  [](const ZipMember& a, const ZipMember& b) { return a.name < b.name; });
        folder_ = archive_folder();
        const ZipMember* byte_order = find("byteorder");
        if (byte_order && byte_order->payload != "little")
            fail_bad_file(path + ": written with byte order " + shortened(byte_order->payload) +
                          ", want little");
        pickle_ = read_pickle(find("data.pkl")->payload, path_, budget_);
    }

    NamedTensors tensors() {
        const PickleValue* dict = state_dict();
        NamedTensors result;
        std::set<std::string_view> names;
        for (size_t i = 0; i < dict->items.size(); i += 2) {
            const PickleValue *key = dict->items[i], *value = dict->items[i + 1];
            if (key->kind != Kind::string)
                fail_bad_file(path_ + ": a key of the state dict is " + name_of(key->kind) + ", want a str");
            if (value->kind != Kind::tensor)
                fail_bad_file(path_ + ": entry \"" + shortened(key->text) + "\" of the state dict is " +
                              name_of(value->kind) + ", want a tensor");
            if (!names.insert(key->text).second)
                fail_bad_file(path_ + ": entry \"" + shortened(key->text) + "\" appears twice");
            budget_.take(tensor_overhead + key->text.size());
            result.push_back({std::string(key->text), tensor(shortened(key->text), *value)});
        }
        return result;
    }

    std::map<std::string, std::string> extra() {
        const std::string prefix = folder_ + extra_folder;
        std::map<std::string, std::string> result;
        for (const auto& [name, payload] : members_) {
            if (!name.starts_with(prefix)) continue;
            budget_.take(payload.size());
            result.emplace(name.substr(prefix.size()), payload);
        }
        return result;
    }

  private:
    // torch.save names the archive's folder after the file; it is the one that holds data.pkl.
    std::string archive_folder() const {
        for (const auto& [name, payload] : members_) {
            const size_t slash = name.find('/');
            if (slash == std::string::npos || name.substr(slash + 1) != "data.pkl") continue;
            return std::string(name.substr(0, slash + 1));
        }
        fail_bad_file(path_ + ": not a PyTorch zip checkpoint (it has no member data.pkl)");
    }

    // A member of the folder, or null.
    const ZipMember* find(const std::string& name) const {
        const std::string whole = folder_ + name;
        const auto at = std::lower_bound(members_.begin(), members_.end(), whole,
                                         [](const ZipMember& m, const std::string& n) { return m.name < n; });
        return at != members_.end() && at->name == whole ? &*at : nullptr;
    }

    const PickleValue* state_dict() const {
        const PickleValue* root = pickle_.root;
        if (root->kind != Kind::dict)
            fail_bad_file(path_ + ": holds " + name_of(root->kind) + ", want a state dict");
        for (const char* wanted : {"model_state_dict", "state_dict", "model"})
            for (size_t i = 0; i < root->items.size(); i += 2)
                if (root->items[i]->kind == Kind::string && root->items[i]->text == wanted &&
                    root->items[i + 1]->kind == Kind::dict)
                    return root->items[i + 1];
        return root;
    }

    [[noreturn]] void bad_tensor(const std::string& name) const {
        fail_bad_file(path_ + ": tensor \"" + name + "\" does not fit its storage");
    }

    std::vector<int64_t> integers(const std::string& name, const PickleValue& tuple) const {
        if (tuple.kind != Kind::tuple) bad_tensor(name);
        if (tuple.items.size() > Shape::max_rank)
            fail_bad_file(path_ + ": tensor \"" + name + "\" has " + std::to_string(tuple.items.size()) +
                          " dims, at most " + std::to_string(Shape::max_rank) + " are supported");
        std::vector<int64_t> values;
        for (const PickleValue* item : tuple.items) {
            if (item->kind != Kind::integer || item->integer < 0) bad_tensor(name);
            values.push_back(item->integer);
        }
        return values;
    }

    // Throws unless every element of the view lies in a storage of `count` elements.
    void check_view(const std::string& name, const View& view, int64_t count) const {
        if (view.sizes.size() != view.strides.size()) bad_tensor(name);
        int64_t last = view.offset, numel = 1;
        bool overflow = false;
        for (size_t i = 0; i < view.sizes.size(); ++i) {
            int64_t reach = 0;
            overflow |= __builtin_mul_overflow(numel, view.sizes[i], &numel);
            if (view.sizes[i] > 1)
                overflow |= __builtin_mul_overflow(view.sizes[i] - 1, view.strides[i], &reach);
            overflow |= __builtin_add_overflow(last, reach, &last);
        }
        // A stride of 0 repeats elements, so that a small file could ask for any amount of memory: refused.
        if (overflow || (numel > 0 && last >= count) || numel > count) bad_tensor(name);
    }

    Tensor tensor(const std::string& name, const PickleValue& value) {
        const PickleValue& storage = *value.items[0];
        const std::string_view type = storage.items[1]->text;
        const std::string key = "data/" + std::string(storage.items[2]->text);
        if (value.items[1]->kind != Kind::integer || value.items[1]->integer < 0) bad_tensor(name);
        const View view{value.items[1]->integer, integers(name, *value.items[2]),
                        integers(name, *value.items[3])};
        const ElementType element = element_type(type, path_);
        const ZipMember* member = find(key);
        if (!member)
            fail_bad_file(path_ + ": member " + shortened(key) + " of tensor \"" + name + "\" is missing");
        const std::string_view payload = member->payload;
        const int64_t count = storage.items[4]->integer;
        if (count != static_cast<int64_t>(payload.size() / element.bytes) ||
            payload.size() % element.bytes != 0)
            fail_bad_file(path_ + ": member " + shortened(key) + " has " + std::to_string(payload.size()) +
                          " bytes for " + std::to_string(count) + " elements of " + std::string(type));
        check_view(name, view, count);
        const auto [at, is_new] = read_.try_emplace(std::make_tuple(payload.data(), type, view));
        if (is_new) {
            // Views of one storage that overlap are told apart here, and take memory each.
            budget_.take(static_cast<uint64_t>(view.numel()) * element.bytes);
            at->second = gather(payload, view, element);
        }
        return at->second;
    }

    static Tensor gather(std::string_view payload, const View& view, const ElementType& element) {
        const size_t bytes = element.bytes;
        if (view.is_contiguous()) {
            const auto numel = static_cast<size_t>(view.numel());
            if (numel > 0) payload = payload.substr(static_cast<size_t>(view.offset) * bytes, numel * bytes);
            payload = payload.substr(0, numel * bytes);
            return element.half ? tensor_from_narrow(payload, view.shape(), *element.half)
                                : tensor_from_bytes(payload, view.shape(), element.dtype);
        }
        const Tensor tensor = Tensor::empty(view.shape(), element.dtype);
        if (element.half) {
            float* to = tensor.data<float>();
            view.for_each([&](size_t at) { *to++ = float_from_narrow(payload, at * bytes, *element.half); });
        } else {
            char* to = static_cast<char*>(tensor.raw());
            view.for_each([&](size_t at) {
                std::memcpy(to, payload.data() + at * bytes, bytes);
                to += bytes;
            });
        }
        return tensor;
    }

    std::string path_, folder_;
    MemoryBudget budget_;
    std::vector<ZipMember> members_;  // by name
    Pickle pickle_;
    std::map<std::tuple<const char*, std::string_view, View>, Tensor> read_;  // by storage
};

}  // namespace

PtFile read_pt(const std::string& path) {
    const std::string bytes = read_file(path);
    CheckpointReader reader(bytes, path);
    return {reader.tensors(), reader.extra()};
}

}  // namespace sieve
