#include "framework/optim/muon.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "framework/core/error.h"
#include "framework/core/guard.h"
#include "framework/optim/kernels.h"

namespace sieve {
namespace {

constexpr const char* op = "muon";

template <class T>
double cost(const MuonMatrix<T>& matrix) {
    const auto rows = static_cast<double>(matrix.rows), cols = static_cast<double>(matrix.cols);
    return std::min(rows, cols) * rows * cols;
}

std::vector<int64_t> rows_of_matrices(const NamedTensor& p, const PackedRows& packed_rows) {
    const int64_t all = p.tensor.dim(0);
    std::vector<int64_t> rows = packed_rows ? packed_rows(p.name) : std::vector<int64_t>();
    if (rows.empty()) return {all};
    const int64_t sum = std::accumulate(rows.begin(), rows.end(), int64_t{0});
    if (sum != all) fail(fmt::format("{}: {} has {} rows, but its matrices have {}", op, p.name, all, sum));
    return rows;
}

}  // namespace

Muon::Muon(const NamedTensors& parameters, const MuonConfig& config)
    : config_(config),
      device_(parameters.empty() ? Device{} : parameters[0].tensor.device()),
      learning_rate_(Tensor::zeros({}, DType::float64, device_)) {
    for (const NamedTensor& p : parameters) {
        const Tensor& t = p.tensor;
        check_rank(op, p.name.c_str(), t, 2);
        check_operand(op, p.name.c_str(), t, {"the first parameter", parameters[0].tensor});
        slots_.push_back({.parameter = p,
                          .momentum_buffer = Tensor::zeros(t.shape(), t.dtype(), device_),
                          .rows = rows_of_matrices(p, config.packed_rows)});
    }
}

void Muon::step(double learning_rate) {
    prepare(learning_rate);
    apply();
}

void Muon::prepare(double learning_rate) {
    learning_rate_.fill(learning_rate);
}

void Muon::apply(const Tensor& guard) {
    plan(guard)();
}

std::function<void()> Muon::plan(const Tensor& guard) {
    if (slots_.empty()) return [] {};
    const double* pointer = guard_pointer(op, guard, {"the first parameter", slots_[0].parameter.tensor});
    return dispatch_float(op, slots_[0].parameter.tensor.dtype(),
                          [&]<class T>() { return plan_as<T>(pointer); });
}

template <class T>
std::function<void()> Muon::plan_as(const double* guard) {
    std::vector<MuonMatrix<T>> matrices;
    for (const Slot& slot : slots_) {
        const Tensor &p = slot.parameter.tensor, grad = p.grad();
        if (!grad.defined() || p.numel() == 0) continue;
        int64_t first = 0;  // element
        for (const int64_t rows : slot.rows) {
            matrices.push_back({.parameter = p.data<T>() + first,
                                .grad = grad.data<T>() + first,
                                .momentum_buffer = slot.momentum_buffer.data<T>() + first,
                                .rows = rows,
                                .cols = p.dim(1)});
            first += rows * p.dim(1);
        }
    }
    if (matrices.empty()) return [] {};
    // The costly ones first: a thread that begins with a small one does not end with a large one.
    std::stable_sort(matrices.begin(), matrices.end(),
                     [](const MuonMatrix<T>& a, const MuonMatrix<T>& b) { return cost(a) > cost(b); });
    // Taken here, since the kernel must not fail between two matrices.
    const Tensor scratch = device_.is_cpu() ? cpu::muon_scratch<T>(matrices) : Tensor();
    return [matrices = std::move(matrices), scratch, device = device_, momentum = config_.momentum,
            rate = learning_rate_.data<double>(), guard] {
        MuonStep<T> step{.matrices = matrices.data(),
                         .count = static_cast<int64_t>(matrices.size()),
                         .momentum = momentum,
                         .learning_rate = rate,
                         .guard = guard};
        if (scratch.defined()) {
            step.scratch = scratch.data<T>();
            step.workers = scratch.dim(0);
            step.worker_elements = scratch.dim(1);
        }
        launch(op, device, cpu::muon_step<T>, cuda::muon_step<T>, step);
    };
}

NamedTensors Muon::state() const {
    NamedTensors state;
    for (const Slot& slot : slots_)
        state.push_back({slot.parameter.name + ".momentum_buffer", slot.momentum_buffer});
    return state;
}

void Muon::load_state(const NamedTensors& state) {
    StateReader reader(state);
    load_state(reader);
    reader.expect_end();
}

void Muon::load_state(StateReader& reader) {
    for (const Slot& slot : slots_) {
        const Tensor& buffer = slot.momentum_buffer;
        buffer.copy_from(
            reader.take(slot.parameter.name + ".momentum_buffer", buffer.shape(), buffer.dtype()));
    }
}

}  // namespace sieve
