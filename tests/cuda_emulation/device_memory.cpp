#include "tests/cuda_emulation/device_memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <new>
#include <stdexcept>

#include "cuda_emulation/engine.h"
#include "tests/cuda_emulation/sanitizer.h"

namespace sieve::cuda_emulation {

namespace {

constexpr size_t alignment = 256, red_zone = 256;
constexpr size_t huge_page = 2 << 20;
constexpr unsigned char stale = 0xFF, zone_mark = 0xFD;

size_t round_up(size_t bytes, size_t unit) {
    return (bytes + unit - 1) / unit * unit;
}

struct Arena {
    size_t size = [] {
        const char* text = std::getenv("SIEVE_CUDA_EMULATION_MEMORY");
        return (text ? std::strtoull(text, nullptr, 10) : 1024) << 20;
    }();
    void* mapping = nullptr;
    char* start = nullptr;  // the mapping's first huge page
    size_t opened = 0;      // bytes from the start that were ever in use, in pages; the rest stays closed
    size_t used = 0;        // bytes that callers asked for
    size_t peak = 0;        // the most that was in use
    size_t cursor = 0;      // where the search for a free place begins: freed memory is reused late
    int accesses = 0;       // living DeviceAccess objects
    int key = -1;           // protection key of the processor; -1 when it has none
    std::map<size_t, size_t> allocations;  // offset -> bytes

    size_t slot_end(size_t offset, size_t bytes) const {
        return offset + round_up(bytes, alignment) + red_zone;
    }
    void map();
    void grow(size_t end);
    void set_accessible(bool accessible) const;
    bool find_place(size_t bytes, size_t& offset) const;
    bool fits(size_t offset, size_t bytes) const;
};
Arena arena;

struct sigaction previous_handler;

// Says what happened, and lets the previous handler, or the default one, end the program.
void on_fault(int number, siginfo_t* info, void*) {
    const auto* address = static_cast<const char*>(info->si_addr);
    if (is_device(address)) {
        const size_t offset = address - arena.start;
        auto next = arena.allocations.upper_bound(offset);
        char text[256];
        int length;
        if (next != arena.allocations.begin() && offset < std::prev(next)->first + std::prev(next)->second) {
            const auto [start, bytes] = *std::prev(next);
            length =
                std::snprintf(text, sizeof text,
                              "host code touched device memory: byte %zu of an allocation of %zu bytes\n",
                              offset - start, bytes);
        } else {
            length = std::snprintf(text, sizeof text, "device memory that is not allocated was touched: %s\n",
                                   arena.accesses ? "by a kernel or a copy" : "by host code");
        }
        if (write(STDERR_FILENO, text, length) < 0) _exit(1);
    }
    sigaction(number, &previous_handler, nullptr);
}

// Test runners replace handlers, so that it is set each time that the memory is closed.
void install_fault_handler() {
    struct sigaction now;
    sigaction(SIGSEGV, nullptr, &now);
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault) return;
    previous_handler = now;
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
}

void Arena::map() {
    if (start) return;
    mapping = mmap(nullptr, size + huge_page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) throw std::bad_alloc();
    start = reinterpret_cast<char*>(round_up(reinterpret_cast<size_t>(mapping), huge_page));
    if (key < 0) key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    // Without keys each operation changes every page twice: the larger they are, the fewer. A kernel that has
    // no huge pages goes on with small ones.
    if (key < 0) madvise(start, size, MADV_HUGEPAGE);
}

// Makes the bytes up to `end` part of the memory that kernels can touch.
void Arena::grow(size_t end) {
    if (end <= opened) return;
    const size_t page = sysconf(_SC_PAGESIZE);
    end = std::min(round_up(end, key < 0 ? huge_page : page), round_up(size, page));
    char* first = start + opened;
    if (key >= 0)
        pkey_mprotect(first, end - opened, PROT_READ | PROT_WRITE, key);
    else
        mprotect(first, end - opened, PROT_READ | PROT_WRITE);
    poison(first, end - opened);
    opened = end;
}

// A protection key takes nanoseconds; the page table takes a millisecond for each 50 MB of small pages.
void Arena::set_accessible(bool accessible) const {
    if (!opened) return;
    if (key >= 0)
        pkey_set(key, accessible ? 0 : PKEY_DISABLE_ACCESS);
    else
        mprotect(start, opened, accessible ? PROT_READ | PROT_WRITE : PROT_NONE);
}

bool Arena::fits(size_t offset, size_t bytes) const {
    const size_t end = slot_end(offset, bytes);
    if (end > size) return false;
    const auto next = allocations.lower_bound(offset);
    return next == allocations.end() || end <= next->first;
}

bool Arena::find_place(size_t bytes, size_t& offset) const {
    if (bytes > size) return false;
    const size_t first = red_zone;  // before the first allocation
    auto search = [&](size_t from, size_t to) {
        // The candidates: `from` itself and the end of each allocation behind it.
        auto next = allocations.lower_bound(from);
        for (offset = from; offset <= to;) {
            if (fits(offset, bytes)) return true;
            if (next == allocations.end()) return false;
            offset = slot_end(next->first, next->second);
            ++next;
        }
        return false;
    };
    return search(std::max(cursor, first), size) || search(first, cursor);
}

}  // namespace

DeviceAccess::DeviceAccess() {
    if (arena.accesses++ == 0) arena.set_accessible(true);
}

DeviceAccess::~DeviceAccess() {
    if (--arena.accesses > 0) return;
    arena.set_accessible(false);
    install_fault_handler();
}

void* allocate_device(size_t bytes) {
    arena.map();
    size_t offset = 0;
    if (!arena.find_place(bytes, offset)) return nullptr;
    const size_t end = arena.slot_end(offset, bytes);
    arena.grow(end);
    DeviceAccess access;
    char* pointer = arena.start + offset;
    unpoison(pointer, end - offset);
    std::memset(pointer, stale, bytes);
    std::memset(pointer + bytes, zone_mark, end - offset - bytes);
    poison(pointer + bytes, end - offset - bytes);
    arena.allocations[offset] = bytes;
    arena.used += bytes;
    arena.peak = std::max(arena.peak, arena.used);
    // Late reuse, but not so late that the memory of the host fills up.
    arena.cursor = end < 2 * arena.peak + (16 << 20) ? end : 0;
    return pointer;
}

bool free_device(void* pointer) {
    const auto found = is_device(pointer) ? arena.allocations.find(static_cast<char*>(pointer) - arena.start)
                                          : arena.allocations.end();
    if (found == arena.allocations.end()) return false;
    {
        DeviceAccess access;
        std::memset(pointer, stale, found->second);
    }
    poison(pointer, found->second);
    arena.used -= found->second;
    arena.allocations.erase(found);
    return true;
}

bool is_device(const void* pointer) {
    const auto* address = static_cast<const char*>(pointer);
    return arena.start && address >= arena.start && address < arena.start + arena.size;
}

bool is_allocated(const void* pointer, size_t bytes) {
    if (!is_device(pointer)) return false;
    const size_t offset = static_cast<const char*>(pointer) - arena.start;
    const auto next = arena.allocations.upper_bound(offset);
    if (next == arena.allocations.begin()) return false;
    const auto [start, size] = *std::prev(next);
    return offset <= start + size && bytes <= start + size - offset;
}

size_t device_bytes_total() {
    return arena.size;
}
size_t device_bytes_free() {
    return arena.size - arena.used;
}

void set_memory_size(size_t bytes) {
    if (!arena.allocations.empty()) throw std::runtime_error("set_memory_size: device memory is in use");
    if (arena.start) munmap(arena.mapping, arena.size + huge_page);
    unpoison(arena.start, arena.opened);
    arena.start = nullptr;
    arena.opened = arena.cursor = 0;
    arena.size = bytes;
}

void check_red_zones(const std::string& culprit) {
    if (address_sanitizer) return;
    for (const auto& [offset, bytes] : arena.allocations) {
        const char* zone = arena.start + offset + bytes;
        const char* end = arena.start + arena.slot_end(offset, bytes);
        const char* wrong =
            std::find_if(zone, end, [](char c) { return static_cast<unsigned char>(c) != zone_mark; });
        if (wrong == end) continue;
        const size_t distance = wrong - zone;
        std::memset(arena.start + offset + bytes, zone_mark, end - zone);
        throw std::runtime_error(culprit + " wrote " + std::to_string(distance) +
                                 " bytes past the end of a device " + "allocation of " +
                                 std::to_string(bytes) + " bytes");
    }
}

}  // namespace sieve::cuda_emulation
