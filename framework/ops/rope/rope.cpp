#include "framework/ops/rope/rope.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <deque>
#include <mutex>
#include <numbers>

#include "framework/autograd/autograd.h"
#include "framework/core/dispatch.h"
#include "framework/ops/rope/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "rope";

struct TableKey {
    int64_t positions, dims;
    RopeAngles angles;
    DType dtype;
    Device device;
    bool operator==(const TableKey&) const = default;
};

struct Table {
    TableKey key{};
    Tensor cosines, sines, negated_sines;  // [positions, dims / 2]
};

int64_t table_positions(int64_t positions) {
    return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(positions)));
}

Table make_table(const TableKey& key) {
    const Shape shape{key.positions, key.dims / 2};
    const Tensor c = Tensor::empty(shape, DType::float64), s = Tensor::empty(shape, DType::float64);
    const Tensor n = Tensor::empty(shape, DType::float64);
    const std::vector<double> frequencies = key.angles.frequencies(key.dims);
    const double magnitude = key.angles.magnitude();
    for (int64_t t = 0, at = 0; t < key.positions; ++t)
        for (const double frequency : frequencies) {
            const double angle = static_cast<double>(t) * frequency;
            c.data<double>()[at] = magnitude * std::cos(angle);
            s.data<double>()[at] = magnitude * std::sin(angle);
            n.data<double>()[at] = -s.data<double>()[at];
            ++at;
        }
    const auto placed = [&](const Tensor& t) { return t.to(key.dtype).to(key.device); };
    return {key, placed(c), placed(s), placed(n)};
}

// A model asks for the same table in every layer of every step: it serves all positions below a power of two,
// so that a growing text needs a new one rarely. Those of the CPU are dropped after a while; those of a
// device are kept, because a recorded step reads them whenever it runs. They are made on the host: record a
// step only after it has run.
Table table_for(const TableKey& key) {
    static std::mutex mutex;
    static auto* kept = new std::array<std::deque<Table>, 2>;
    std::deque<Table>& tables = (*kept)[key.device.is_cpu() ? 0 : 1];
    const std::lock_guard lock(mutex);
    for (const Table& table : tables)
        if (table.key == key) return table;
    if (key.device.is_cpu() && tables.size() == 8) tables.pop_front();
    tables.push_back(make_table(key));
    return tables.back();
}

int64_t lowest_position(const Positions& positions) {
    return positions.each.empty() ? positions.first
                                  : *std::min_element(positions.each.begin(), positions.each.end());
}

int64_t checked_dims(const RopeConfig& config, int64_t head_dim) {
    const int64_t dims = config.rotary_dims ? config.rotary_dims : head_dim;
    if (dims % 2 != 0 || dims < 0 || dims > head_dim)
        fail(std::string(op) + ": rotary dims are " + std::to_string(dims) +
             ", want an even number up to the head size " + std::to_string(head_dim));
    if (const int64_t lowest = lowest_position(config.positions); lowest < 0)
        fail(std::string(op) + ": a position is " + std::to_string(lowest) + ", want at least 0");
    return dims;
}

void check_places(const Positions& positions, int64_t tokens, Device device) {
    if (positions.each.empty()) return;
    const auto count = static_cast<int64_t>(positions.each.size());
    if (count != tokens)
        fail(std::string(op) + ": " + std::to_string(count) + " positions for " + std::to_string(tokens) +
             " tokens");
    if (!device.is_cpu()) fail(std::string(op) + ": positions of their own are for tensors on the CPU");
}

// How the heads of a tensor lie in memory.
struct Layout {
    int64_t batch, token, head;
};

struct Move {
    Tensor from;  // undefined: zeros
    int64_t from_offset;
    Layout from_layout;
    Tensor to;
    int64_t to_offset;
    Layout to_layout;
    int64_t batches, tokens, heads, head_dim;
    bool rotate;
};

template <class T>
RopeMove<T> arguments_of(const Move& m, const RopeConfig& config, const Table& table, bool backwards) {
    const int64_t skipped = config.positions.first * (table.key.dims / 2);
    return {.x = m.from.defined() ? m.from.data<T>() + m.from_offset : nullptr,
            .y = m.to.data<T>() + m.to_offset,
            .x_batch = m.from_layout.batch,
            .x_token = m.from_layout.token,
            .x_head = m.from_layout.head,
            .y_batch = m.to_layout.batch,
            .y_token = m.to_layout.token,
            .y_head = m.to_layout.head,
            .cosines = table.cosines.data<T>() + skipped,
            .sines = (backwards ? table.negated_sines : table.sines).data<T>() + skipped,
            .batches = m.batches,
            .tokens = m.tokens,
            .heads = m.heads,
            .head_dim = m.head_dim,
            .rotary_dims = m.rotate ? table.key.dims : 0,
            .interleaved = config.layout == RopeLayout::interleaved};
}

// Moves of the same tokens, one after the other, and head size, three at most, in one launch.
void run_in_order(const std::vector<Move>& moves, const RopeConfig& config, int64_t dims, bool backwards) {
    const Tensor& to = moves[0].to;
    const Table table = table_for({table_positions(config.positions.first + moves[0].tokens), dims,
                                   config.angles, to.dtype(), to.device()});
    dispatch_float(op, to.dtype(), [&]<class T>() {
        RopeMoves<T> args{.count = static_cast<int>(moves.size())};
        for (size_t i = 0; i < moves.size(); ++i)
            args.moves[i] = arguments_of<T>(moves[i], config, table, backwards);
        launch(op, to.device(), cpu::rope_move<T>, cuda::rope_move<T>, args);
    });
}

// The same for tokens that may stand anywhere.
void run(const std::vector<Move>& moves, const RopeConfig& config, int64_t dims, bool backwards) {
    check_places(config.positions, moves[0].tokens, moves[0].to.device());
    if (config.positions.each.empty()) return run_in_order(moves, config, dims, backwards);
    for (int64_t t = 0; t < moves[0].tokens; ++t) {
        std::vector<Move> of_token = moves;
        for (Move& move : of_token) {
            move.from_offset += t * move.from_layout.token;
            move.to_offset += t * move.to_layout.token;
            move.tokens = 1;
        }
        run_in_order(of_token, config.at({.first = config.positions.each[static_cast<size_t>(t)]}), dims,
                     backwards);
    }
}

Tensor rotated(const Tensor& x, const RopeConfig& config, int64_t dims, bool backwards) {
    const int64_t B = x.dim(0), T = x.dim(1), H = x.dim(2), dh = x.dim(3);
    const Layout layout{T * H * dh, H * dh, dh};
    const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    run({{x, 0, layout, y, 0, layout, B, T, H, dh, true}}, config, dims, backwards);
    return y;
}

struct QkvShape {
    int64_t B, T, H, G, dh;
    Layout packed() const { return {T * (H + 2 * G) * dh, (H + 2 * G) * dh, dh}; }
    Layout split(int64_t heads) const { return {heads * T * dh, dh, T * dh}; }
};

QkvShape checked_shape(const Tensor& qkv, int64_t heads, int64_t kv_heads) {
    constexpr const char* name = "split_qkv_rope";
    check_rank(name, "qkv", qkv, 3);
    const int64_t parts = heads + 2 * kv_heads;
    if (heads < 1 || kv_heads < 1 || qkv.dim(2) % parts != 0)
        fail(std::string(name) + ": qkv is " + to_string(qkv.shape()) + ", want a last dim divisible by " +
             std::to_string(parts) + " (" + std::to_string(heads) + " query and 2 x " +
             std::to_string(kv_heads) + " key and value heads)");
    return {qkv.dim(0), qkv.dim(1), heads, kv_heads, qkv.dim(2) / parts};
}

// How much of pair i's frequency YaRN divides.
double yarn_ramp(const YarnScaling& yarn, double base, int64_t dims, int64_t i) {
    const auto R = static_cast<double>(dims);
    const auto pair = [&](double turns) {
        const double length = static_cast<double>(yarn.original_length);
        return R * std::log(length / (2 * std::numbers::pi * turns)) / (2 * std::log(base));
    };
    const double low = std::max(std::floor(pair(yarn.beta_fast)), 0.0);
    double high = std::min(std::ceil(pair(yarn.beta_slow)), R - 1);
    if (low == high) high += 0.001;
    return std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
}

}  // namespace

std::vector<double> RopeAngles::frequencies(int64_t rotary_dims) const {
    std::vector<double> all;
    for (int64_t i = 0; i < rotary_dims / 2; ++i) {
        const double own = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dims));
        const double ramp = yarn ? yarn_ramp(*yarn, base, rotary_dims, i) : 0;
        all.push_back(yarn ? own * (1 - ramp) + own / yarn->factor * ramp : own);
    }
    return all;
}

int64_t rope_table_bytes(int64_t positions, int64_t rotary_dims, DType dtype) {
    return 3 * table_positions(positions) * (rotary_dims / 2) * static_cast<int64_t>(size_of(dtype));
}

Tensor rope(const Tensor& x, const RopeConfig& config) {
    check_rank(op, "x", x, 4);
    const int64_t dims = checked_dims(config, x.dim(3));
    const Tensor y = rotated(x, config, dims, false);
    record(op, {x}, {y}, [config, dims](const std::vector<Tensor>& dy) -> std::vector<Tensor> {
        return {rotated(dy[0], config, dims, true)};
    });
    return y;
}

QkvHeads split_qkv_rope(const Tensor& qkv, int64_t heads, int64_t kv_heads, const RopeConfig& config) {
    const QkvShape s = checked_shape(qkv, heads, kv_heads);
    const int64_t dims = checked_dims(config, s.dh);
    const auto part = [&](int64_t count) {
        return Tensor::empty({s.B, count, s.T, s.dh}, qkv.dtype(), qkv.device());
    };
    const QkvHeads out{part(s.H), part(s.G), part(s.G)};
    const auto take = [&](const Tensor& to, int64_t first_head, int64_t count, bool rotate) {
        return Move{qkv, first_head * s.dh, s.packed(), to, 0, s.split(count), s.B, s.T, count, s.dh, rotate};
    };
    run({take(out.q, 0, s.H, true), take(out.k, s.H, s.G, true), take(out.v, s.H + s.G, s.G, false)}, config,
        dims, false);
    record("split_qkv_rope", {qkv}, {out.q, out.k, out.v},
           [s, config, dims, like = qkv.shape(), dtype = qkv.dtype(),
            device = qkv.device()](const std::vector<Tensor>& d) -> std::vector<Tensor> {
               const Tensor dqkv = Tensor::empty(like, dtype, device);
               const auto put = [&](const Tensor& from, int64_t first_head, int64_t count, bool rotate) {
                   return Move{from, 0,     s.split(count), dqkv,  first_head * s.dh, s.packed(), s.B,
                               s.T,  count, s.dh,           rotate};
               };
               run({put(d[0], 0, s.H, true), put(d[1], s.H, s.G, true), put(d[2], s.H + s.G, s.G, false)},
                   config, dims, true);
               return {dqkv};
           });
    return out;
}

}  // namespace sieve
