#include "framework/io/pickle.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <unordered_map>

#include "framework/core/error.h"
#include "framework/io/little_endian.h"

namespace sieve {

using Kind = PickleValue::Kind;

const char* name_of(Kind kind) {
    switch (kind) {
        case Kind::none:
            return "None";
        case Kind::boolean:
            return "a bool";
        case Kind::integer:
            return "an int";
        case Kind::real:
            return "a float";
        case Kind::string:
            return "a str";
        case Kind::list:
            return "a list";
        case Kind::tuple:
            return "a tuple";
        case Kind::dict:
            return "a dict";
        case Kind::global:
            return "a class or function";
        case Kind::storage:
            return "a storage";
        case Kind::tensor:
            return "a tensor";
    }
    return "?";
}

namespace {

constexpr std::string_view ordered_dict = "collections.OrderedDict";
constexpr std::string_view rebuild_tensor = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view rebuild_parameter = "torch._utils._rebuild_parameter";
constexpr std::string_view allowed_globals[] = {
    ordered_dict,          rebuild_tensor,      rebuild_parameter,       "torch.FloatStorage",
    "torch.DoubleStorage", "torch.HalfStorage", "torch.BFloat16Storage", "torch.LongStorage",
    "torch.IntStorage",    "torch.ByteStorage", "torch.BoolStorage"};

// What things take in memory: a pointer in a vector that doubles as it grows and keeps the old half until it
// has; the block of a vector, beside its elements; an entry of the memo.
constexpr uint64_t growing_pointer = 3 * sizeof(void*), block = 24, memo_entry = 48;

// The stack machine. `stack_` holds values; `marks_` the stack's heights at each MARK.
class Machine {
  public:
    Machine(std::string_view bytes, const std::string& path, MemoryBudget& budget)
        : bytes_(bytes), path_(path), budget_(budget) {}

    Pickle run() {
        if (take<uint8_t>() != 0x80) damaged();
        const int protocol = take<uint8_t>();
        if (protocol != 2)
            fail_bad_file(path_ + ": pickled with protocol " + std::to_string(protocol) +
                          ", want 2 (torch.save's default)");
        while (true) {
            const auto opcode = take<uint8_t>();
            if (opcode == '.') break;
            if (!push_constant(opcode) && !use_memo(opcode) && !build_container(opcode)) refuse(opcode);
        }
        pickle_.root = pop();
        return std::move(pickle_);
    }

  private:
    [[noreturn]] void damaged() const { fail_bad_file(path_ + ": its pickle is damaged"); }

    [[noreturn]] void refuse(uint8_t opcode) const {
        char text[8];
        std::snprintf(text, sizeof text, "0x%02x", opcode);
        fail_bad_file(path_ + ": its pickle uses opcode " + text + ", which this reader does not accept");
    }

    std::string_view take_bytes(uint64_t count) {
        if (count > bytes_.size() - at_) damaged();
        const std::string_view taken = bytes_.substr(at_, count);
        at_ += count;
        return taken;
    }

    template <class T>
    T take() {
        return number_at<T>(take_bytes(sizeof(T)), 0);
    }

    std::string_view take_line() {
        const size_t end = bytes_.find('\n', at_);
        if (end == std::string_view::npos) damaged();
        const std::string_view line = take_bytes(end - at_);
        ++at_;
        return line;
    }

    void push(PickleValue value) {
        const size_t items = value.items.size();
        budget_.take(sizeof value + (items ? block + items * sizeof(void*) : 0));
        pickle_.values.push_back(std::move(value));
        push_again(&pickle_.values.back());
    }

    void push_again(PickleValue* value) {
        if (stack_.size() == highest_) {
            budget_.take(growing_pointer);
            ++highest_;
        }
        stack_.push_back(value);
    }

    // The stack above the last mark belongs to the container that is being built.
    size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

    PickleValue* top(size_t below = 0) const {
        if (stack_.size() < floor() + below + 1) damaged();
        return stack_[stack_.size() - 1 - below];
    }

    PickleValue* pop() {
        PickleValue* value = top();
        stack_.pop_back();
        return value;
    }

    std::vector<const PickleValue*> pop_many(size_t count) {
        if (stack_.size() - floor() < count) damaged();
        std::vector<const PickleValue*> values(stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
        stack_.resize(stack_.size() - count);
        return values;
    }

    std::vector<const PickleValue*> pop_to_mark() {
        if (marks_.empty()) damaged();
        std::vector<const PickleValue*> values = pop_many(stack_.size() - marks_.back());
        marks_.pop_back();
        return values;
    }

    bool push_constant(uint8_t opcode) {
        switch (opcode) {
            case 'N':
                push({.kind = Kind::none});
                return true;
            case 0x88:
                push({.kind = Kind::boolean, .integer = 1});
                return true;
            case 0x89:
                push({.kind = Kind::boolean, .integer = 0});
                return true;
            case 'K':
                push({.kind = Kind::integer, .integer = take<uint8_t>()});
                return true;
            case 'M':
                push({.kind = Kind::integer, .integer = take<uint16_t>()});
                return true;
            case 'J':
                push({.kind = Kind::integer, .integer = take<int32_t>()});
                return true;
            case 0x8a:
                push({.kind = Kind::integer, .integer = take_long()});
                return true;
            case 'G':
                push({.kind = Kind::real, .real = take_big_endian_double()});
                return true;
            case 'X':
                push({.kind = Kind::string, .text = take_bytes(take<uint32_t>())});
                return true;
            case 'c':
                push_global();
                return true;
            default:
                return false;
        }
    }

    // LONG1: a two's complement number of up to 255 bytes; ours have at most 8.
    int64_t take_long() {
        const std::string_view raw = take_bytes(take<uint8_t>());
        if (raw.size() > 8) damaged();
        uint64_t value = 0;
        for (size_t i = 0; i < raw.size(); ++i) value |= uint64_t{static_cast<uint8_t>(raw[i])} << (8 * i);
        const size_t unused = 64 - 8 * raw.size();
        return unused == 64 ? 0 : static_cast<int64_t>(value << unused) >> unused;
    }

    double take_big_endian_double() {
        uint64_t bits = 0;
        for (const char byte : take_bytes(8)) bits = bits << 8 | static_cast<uint8_t>(byte);
        return std::bit_cast<double>(bits);
    }

    void push_global() {
        const std::string module = shortened(take_line()), name = module + "." + shortened(take_line());
        const auto known = std::find(std::begin(allowed_globals), std::end(allowed_globals), name);
        if (known == std::end(allowed_globals))
            fail_bad_file(path_ + ": refers to " + name +
                          ", which this reader does not accept (it executes nothing)");
        push({.kind = Kind::global, .text = *known});
    }

    bool use_memo(uint8_t opcode) {
        switch (opcode) {
            case 'q':
                memoize(take<uint8_t>());
                return true;
            case 'r':
                memoize(take<uint32_t>());
                return true;
            case 'h':
                recall(take<uint8_t>());
                return true;
            case 'j':
                recall(take<uint32_t>());
                return true;
            default:
                return false;
        }
    }

    void memoize(uint32_t index) {
        budget_.take(memo_entry);
        memo_[index] = top();
    }

    void recall(uint32_t index) {
        const auto found = memo_.find(index);
        if (found == memo_.end()) damaged();
        push_again(found->second);
    }

    bool build_container(uint8_t opcode) {
        switch (opcode) {
            case '(':
                budget_.take(growing_pointer);
                marks_.push_back(stack_.size());
                return true;
            case '}':
                push({.kind = Kind::dict});
                return true;
            case ']':
                push({.kind = Kind::list});
                return true;
            case ')':
                push({.kind = Kind::tuple});
                return true;
            case 0x85:
                push({.kind = Kind::tuple, .items = pop_many(1)});
                return true;
            case 0x86:
                push({.kind = Kind::tuple, .items = pop_many(2)});
                return true;
            case 0x87:
                push({.kind = Kind::tuple, .items = pop_many(3)});
                return true;
            case 't':
                push({.kind = Kind::tuple, .items = pop_to_mark()});
                return true;
            case 'a':
                append(Kind::list, pop_many(1));
                return true;
            case 'e':
                append(Kind::list, pop_to_mark());
                return true;
            case 's':
                append(Kind::dict, pop_many(2));
                return true;
            case 'u':
                append(Kind::dict, pop_to_mark());
                return true;
            case 'Q':
                push_storage();
                return true;
            case 'R':
                reduce();
                return true;
            case 'b':
                build();
                return true;
            default:
                return false;
        }
    }

    void append(Kind kind, const std::vector<const PickleValue*>& values) {
        PickleValue* container = top();
        if (container->kind != kind || (kind == Kind::dict && values.size() % 2 != 0)) damaged();
        budget_.take(growing_pointer * values.size());
        container->items.insert(container->items.end(), values.begin(), values.end());
    }

    void push_storage() {
        const PickleValue* id = pop();
        if (id->kind != Kind::tuple || id->items.size() != 5) damaged();
        constexpr Kind kinds[] = {Kind::string, Kind::global, Kind::string, Kind::string, Kind::integer};
        for (size_t i = 0; i < 5; ++i)
            if (id->items[i]->kind != kinds[i]) damaged();
        if (id->items[0]->text != "storage") damaged();
        push({.kind = Kind::storage, .items = id->items});
    }

    // A call: of the three globals that can be called, each stands for plain data.
    void reduce() {
        const PickleValue* arguments = pop();
        const PickleValue* callee = pop();
        if (callee->kind != Kind::global || arguments->kind != Kind::tuple) damaged();
        const std::vector<const PickleValue*>& items = arguments->items;
        if (callee->text == ordered_dict && items.empty()) {
            push({.kind = Kind::dict});
        } else if (callee->text == rebuild_tensor && items.size() >= 4 && items[0]->kind == Kind::storage) {
            push({.kind = Kind::tensor, .items = {items[0], items[1], items[2], items[3]}});
        } else if (callee->text == rebuild_parameter && !items.empty() && items[0]->kind == Kind::tensor) {
            push({.kind = Kind::tensor, .items = items[0]->items});
        } else {
            fail_bad_file(path_ + ": calls " + std::string(callee->text) +
                          " in a way that this reader does not accept");
        }
    }

    // State set on an object. Module.state_dict() hangs its version numbers (_metadata) on the dict so; they
    // are not needed.
    void build() {
        pop();
        if (top()->kind != Kind::dict) damaged();
    }

    std::string_view bytes_;
    const std::string& path_;
    MemoryBudget& budget_;
    size_t at_ = 0;
    Pickle pickle_;
    std::vector<PickleValue*> stack_;
    size_t highest_ = 0;  // that the stack has been
    std::vector<size_t> marks_;
    std::unordered_map<uint32_t, PickleValue*> memo_;
};

}  // namespace

Pickle read_pickle(std::string_view bytes, const std::string& path, MemoryBudget& budget) {
    return Machine(bytes, path, budget).run();
}

}  // namespace sieve
