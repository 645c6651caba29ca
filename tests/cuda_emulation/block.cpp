#include "tests/cuda_emulation/block.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda_emulation/mma_emulated.h"
#include "tests/cuda_emulation/device_memory.h"
#include "tests/cuda_emulation/fiber.h"
#include "tests/cuda_emulation/shared_memory.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace sieve::cuda_emulation {

namespace {

constexpr int warp_lanes = 32;
constexpr int max_threads = 1024;

uint64_t seed_value = [] {
    const char* text = std::getenv("SIEVE_CUDA_EMULATION_SEED");
    return text ? std::strtoull(text, nullptr, 10) : 0;
}();
uint64_t launches = 0;

enum class State : uint8_t { ready, at_barrier, in_collective, exited };

struct AsyncCopy {
    void* to;
    const void* from;
    int bytes;
    int group;  // 0 until it is committed
};

struct Thread {
    State state = State::exited;
    uint3 index{};
    // Where it waits, and with what.
    const char* waits_in = nullptr;
    std::source_location where;
    bool predicate = false;
    Votes votes{};
    uint32_t mask = 0;
    void* operands = nullptr;
    Resolve resolve = nullptr;
    // Asynchronous copies that were issued and not yet waited for.
    std::vector<AsyncCopy> copies;
    int groups = 0;
};

std::string text(uint3 v) {
    return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}
std::string text(const std::source_location& where) {
    return std::string(where.file_name()) + ":" + std::to_string(where.line());
}
std::string hexadecimal(uint32_t mask) {
    char digits[16];
    std::snprintf(digits, sizeof digits, "0x%08x", mask);
    return digits;
}

// "0-15, 31" for the numbers in order.
std::string ranges(const std::vector<int>& numbers) {
    std::string result;
    for (size_t i = 0; i < numbers.size();) {
        size_t end = i + 1;
        while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
        result += (result.empty() ? "" : ", ") + std::to_string(numbers[i]);
        if (end - i > 1) result += "-" + std::to_string(numbers[end - 1]);
        i = end;
    }
    return result;
}

class BlockRunner {
  public:
    void run(const Launch& launch);

    int current() const { return current_; }
    Thread& current_thread() { return threads_[current_]; }
    void wait(State state);
    std::string context() const;

  private:
    void run_block();
    void run_warp(int warp);
    void resume(int thread);
    int next_warp();
    bool warp_is_ready(int warp) const;
    void resolve_collectives(int warp);
    uint32_t group_of(int warp, int lane) const;
    bool release_barrier();
    [[noreturn]] void report_deadlock() const;
    void abandon();

    static void fiber_main();

    const Launch* launch_ = nullptr;
    Shuffler shuffler_{0};
    std::vector<Thread> threads_{max_threads};
    std::vector<std::unique_ptr<Fiber>> fibers_;
    std::vector<int> warps_;  // in the order in which they take turns
    size_t turn_ = 0;
    bool stay_with_warp_ = true;
    int count_ = 0;               // threads of a block
    int current_ = -1;            // the running thread
    std::exception_ptr failure_;  // thrown by a thread
};

BlockRunner runner;

void BlockRunner::run(const Launch& launch) {
    launch_ = &launch;
    shuffler_ = next_shuffler();
    count_ = launch.block.x * launch.block.y * launch.block.z;
    while (static_cast<int>(fibers_.size()) < count_) fibers_.push_back(std::make_unique<Fiber>(fiber_main));
    warps_.resize((count_ + warp_lanes - 1) / warp_lanes);
    for (size_t i = 0; i < warps_.size(); ++i) warps_[i] = i;
    blockDim = launch.block;
    gridDim = launch.grid;

    const uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    // A shuffled order without a list of all blocks: steps that share no factor with their number.
    const uint64_t first = shuffler_.below(static_cast<uint32_t>(std::min<uint64_t>(blocks, 1u << 31)));
    uint64_t step = 1;
    if (shuffler_) do
            step = 1 + shuffler_.below(static_cast<uint32_t>(std::min<uint64_t>(blocks, 1u << 31)));
        while (std::gcd(step, blocks) != 1);
    for (uint64_t i = 0, b = first; i < blocks; ++i, b = (b + step) % blocks) {
        blockIdx = {static_cast<unsigned>(b % launch.grid.x),
                    static_cast<unsigned>(b / launch.grid.x % launch.grid.y),
                    static_cast<unsigned>(b / launch.grid.x / launch.grid.y)};
        refill_shared_memory(launch.shared_bytes);
        try {
            run_block();
        } catch (...) {
            abandon();
            throw;
        }
        if (!red_zones_are_intact(launch.shared_bytes))
            throw std::runtime_error(context() + "writes outside its " + std::to_string(launch.shared_bytes) +
                                     " bytes of dynamic shared memory");
    }
}

void BlockRunner::run_block() {
    uint3 index{0, 0, 0};
    for (int t = 0; t < count_; ++t) {
        Thread& thread = threads_[t];
        thread.state = State::ready;
        thread.index = index;
        thread.copies.clear();
        thread.groups = 0;
        if (++index.x == launch_->block.x) index.x = 0, ++index.y;
        if (index.y == launch_->block.y) index.y = 0, ++index.z;
    }
    shuffler_.shuffle(warps_.data(), static_cast<int>(warps_.size()));
    turn_ = 0;
    stay_with_warp_ = shuffler_.below(2) == 0;

    for (;;) {
        const int warp = next_warp();
        if (warp >= 0)
            run_warp(warp);
        else if (!release_barrier())
            return;
    }
}

bool BlockRunner::warp_is_ready(int warp) const {
    const int end = std::min(count_, (warp + 1) * warp_lanes);
    for (int t = warp * warp_lanes; t < end; ++t)
        if (threads_[t].state == State::ready) return true;
    return false;
}

// The warp whose turn it is among those that can go on; -1 when none can.
int BlockRunner::next_warp() {
    if (!stay_with_warp_) ++turn_;
    for (size_t i = 0; i < warps_.size(); ++i) {
        const size_t position = (turn_ + i) % warps_.size();
        if (!warp_is_ready(warps_[position])) continue;
        turn_ = position;
        return warps_[position];
    }
    return -1;
}

// Each ready lane runs once, up to its next barrier or collective.
void BlockRunner::run_warp(int warp) {
    int lanes[warp_lanes];
    const int first = warp * warp_lanes;
    const int lane_count = std::min(warp_lanes, count_ - first);
    for (int i = 0; i < lane_count; ++i) lanes[i] = first + i;
    shuffler_.shuffle(lanes, lane_count);
    for (int i = 0; i < lane_count; ++i)
        if (threads_[lanes[i]].state == State::ready) resume(lanes[i]);
    resolve_collectives(warp);
}

void BlockRunner::resume(int thread) {
    current_ = thread;
    threadIdx = threads_[thread].index;
    fibers_[thread]->resume();
    current_ = -1;
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void BlockRunner::fiber_main() {
    for (;;) {
        try {
            runner.launch_->thread_body();
        } catch (...) {
            runner.failure_ = std::current_exception();
        }
        runner.current_thread().state = State::exited;
        Fiber::yield();
    }
}

void BlockRunner::wait(State state) {
    current_thread().state = state;
    Fiber::yield();
}

// The lanes that the lane's collective needs, when all of them wait in that same collective; else 0.
uint32_t BlockRunner::group_of(int warp, int lane) const {
    const Thread* lanes = &threads_[warp * warp_lanes];
    const int lane_count = std::min(warp_lanes, count_ - warp * warp_lanes);
    const Thread& own = lanes[lane];
    uint32_t group = 0;
    for (int other = 0; other < lane_count; ++other) {
        const Thread& thread = lanes[other];
        if (!(own.mask >> other & 1) || thread.state == State::exited) continue;
        if (thread.state != State::in_collective || thread.mask != own.mask ||
            thread.resolve != own.resolve || thread.waits_in != own.waits_in ||
            thread.where.line() != own.where.line() || thread.where.column() != own.where.column())
            return 0;
        group |= 1u << other;
    }
    return group;
}

void BlockRunner::resolve_collectives(int warp) {
    Thread* lanes = &threads_[warp * warp_lanes];
    const int lane_count = std::min(warp_lanes, count_ - warp * warp_lanes);
    for (int lane = 0; lane < lane_count; ++lane) {
        if (lanes[lane].state != State::in_collective) continue;
        const uint32_t group = group_of(warp, lane);
        if (!group) continue;
        void* operands[warp_lanes] = {};
        for (int other = 0; other < lane_count; ++other)
            if (group >> other & 1) {
                operands[other] = lanes[other].operands;
                lanes[other].state = State::ready;
            }
        try {
            lanes[lane].resolve(group, operands);
        } catch (const std::runtime_error& error) {
            throw std::runtime_error(context() + "warp " + std::to_string(warp) + ", " +
                                     lanes[lane].waits_in + " with mask " + hexadecimal(lanes[lane].mask) +
                                     " at " + text(lanes[lane].where) + ": " + error.what());
        }
    }
}

// Called when no thread is ready. False when all threads have ended.
bool BlockRunner::release_barrier() {
    const Thread* first = nullptr;
    Votes votes{0, 0};
    for (int t = 0; t < count_; ++t) {
        const Thread& thread = threads_[t];
        if (thread.state == State::exited) continue;
        if (!first) first = &thread;
        if (thread.state != State::at_barrier || thread.waits_in != first->waits_in ||
            thread.where.line() != first->where.line() || thread.where.column() != first->where.column())
            report_deadlock();
        votes.holding += thread.predicate;
        votes.arrived += 1;
    }
    if (!first) return false;
    for (int t = 0; t < count_; ++t)
        if (threads_[t].state == State::at_barrier) {
            threads_[t].votes = votes;
            threads_[t].state = State::ready;
        }
    return true;
}

void BlockRunner::report_deadlock() const {
    std::map<std::string, std::vector<int>> waiting;
    bool in_collective = false;
    for (int t = 0; t < count_; ++t) {
        const Thread& thread = threads_[t];
        if (thread.state == State::exited) {
            waiting["have ended"].push_back(t);
            continue;
        }
        std::string place = std::string("wait in ") + thread.waits_in;
        if (thread.state == State::in_collective) {
            in_collective = true;
            place += " with mask " + hexadecimal(thread.mask);
        }
        waiting[place + " at " + text(thread.where)].push_back(t);
    }
    std::string message =
        context() + (in_collective ? "a warp collective waits for lanes that never arrive"
                                   : "barrier divergence, threads wait at different barriers");
    for (const auto& [place, threads] : waiting) message += "\n  threads " + ranges(threads) + " " + place;
    throw std::runtime_error(message);
}

// After an error: the threads that did not end must not go on where they are.
void BlockRunner::abandon() {
    for (int t = 0; t < count_; ++t) fibers_[t]->restart();
    failure_ = nullptr;
}

std::string BlockRunner::context() const {
    return launch_->name + ", block " + text(blockIdx) + ": ";
}

}  // namespace

uint32_t Shuffler::below(uint32_t bound) {
    if (state_ == 0) return 0;
    state_ ^= state_ << 13;  // xorshift64
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<uint32_t>((state_ >> 32) * bound >> 32);
}

Shuffler next_shuffler() {
    if (seed_value == 0) return Shuffler(0);
    uint64_t state = (seed_value + 0x9E3779B97F4A7C15u * ++launches) * 0xBF58476D1CE4E5B9u;
    state ^= state >> 31;
    return Shuffler(state ? state : 1);
}

void set_seed(uint64_t seed) {
    seed_value = seed;
    launches = 0;
}

void run_grid(const Launch& launch) {
    runner.run(launch);
}

unsigned int lane_id() {
    return runner.current() % warp_lanes;
}

void thread_error(const std::string& what, const std::source_location& where) {
    throw std::runtime_error(runner.context() + "thread " + text(threadIdx) + ": " + what + " at " +
                             text(where));
}

Votes block_barrier(const char* name, bool predicate, const std::source_location& where) {
    Thread& thread = runner.current_thread();
    thread.waits_in = name;
    thread.where = where;
    thread.predicate = predicate;
    runner.wait(State::at_barrier);
    return thread.votes;
}

void warp_collective(const char* name, uint32_t mask, void* operands, Resolve resolve,
                     const std::source_location& where) {
    if (!(mask >> lane_id() & 1))
        thread_error(std::string(name) + ": mask " + hexadecimal(mask) + " lacks the calling lane " +
                         std::to_string(lane_id()),
                     where);
    Thread& thread = runner.current_thread();
    thread.waits_in = name;
    thread.where = where;
    thread.mask = mask;
    thread.operands = operands;
    thread.resolve = resolve;
    runner.wait(State::in_collective);
}

// ---- asynchronous copies: done at the wait, so that a missing wait shows ----------------------------------

void issue_async_copy(void* shared, const void* global, int bytes, const std::source_location& where) {
    if (reinterpret_cast<uintptr_t>(shared) % 16 || reinterpret_cast<uintptr_t>(global) % 16)
        thread_error("cp_async_16: an address that is no multiple of 16", where);
    if (!is_shared(shared, 16)) thread_error("cp_async_16: the target is not in shared memory", where);
    if (bytes > 0 && !is_allocated(global, bytes))
        thread_error("cp_async_16: the source is not in device memory", where);
    if (bytes < 0 || bytes > 16)
        thread_error("cp_async_16: " + std::to_string(bytes) + " bytes, want 0 to 16", where);
    std::memset(shared, 0xFF, 16);  // from here to the wait its contents are not defined
    runner.current_thread().copies.push_back({.to = shared, .from = global, .bytes = bytes, .group = 0});
}

void commit_async_copies() {
    Thread& thread = runner.current_thread();
    ++thread.groups;
    for (AsyncCopy& copy : thread.copies)
        if (copy.group == 0) copy.group = thread.groups;
}

void wait_async_copies(int groups_left) {
    Thread& thread = runner.current_thread();
    std::erase_if(thread.copies, [&](const AsyncCopy& copy) {
        if (copy.group == 0 || copy.group > thread.groups - groups_left) return false;
        if (copy.bytes > 0) std::memcpy(copy.to, copy.from, copy.bytes);
        std::memset(static_cast<char*>(copy.to) + copy.bytes, 0, 16 - copy.bytes);
        return true;
    });
}

}  // namespace sieve::cuda_emulation
