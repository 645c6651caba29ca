#include "framework/train/non_finite.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace sieve {
namespace {

std::string place_of(int64_t index, const Shape& shape) {
    std::string text;
    for (int i = shape.rank() - 1; i >= 0; --i) {
        text = fmt::format("{}{}{}", index % shape[i], text.empty() ? "" : ",", text);
        index /= shape[i];
    }
    return "[" + text + "]";
}

template <class T>
std::optional<std::string> element_of(const Tensor& tensor) {
    const std::vector<T> values = tensor.to_vector<T>();
    const auto bad = std::find_if(values.begin(), values.end(), [](T x) { return !std::isfinite(x); });
    if (bad == values.end()) return std::nullopt;
    return fmt::format("{} (first at {})", text_of_number(static_cast<double>(*bad)),
                       place_of(bad - values.begin(), tensor.shape()));
}

}  // namespace

std::string text_of_number(double value) {
    return std::isnan(value) ? "nan" : fmt::format("{:.6g}", value);
}

std::optional<std::string> non_finite_element(const Tensor& tensor) {
    if (tensor.dtype() == DType::float32) return element_of<float>(tensor);
    if (tensor.dtype() == DType::float64) return element_of<double>(tensor);
    return std::nullopt;
}

std::optional<std::string> non_finite_weight(const Transformer& model) {
    for (const NamedTensor& w : model.state())
        if (const auto element = non_finite_element(w.tensor))
            return fmt::format("the weight {} is {}", w.name, *element);
    return std::nullopt;
}

std::optional<std::string> non_finite_gradient(const Transformer& model) {
    const NamedTensors parameters = model.parameters();
    for (auto p = parameters.rbegin(); p != parameters.rend(); ++p)
        if (const Tensor grad = p->tensor.grad(); grad.defined())
            if (const auto element = non_finite_element(grad))
                return fmt::format("the gradient of {} is {}", p->name, *element);
    return std::nullopt;
}

void FiniteWatch::look(const std::string& what, const Tensor& tensor) {
    if (found_ || !tensor.defined()) return;
    if (const auto element = non_finite_element(tensor)) found_ = fmt::format("{} is {}", what, *element);
}

void FiniteWatch::watch(ForwardOptions& options) {
    options.observe = [this](int64_t layer, const AttentionTrace& t) {
        const std::string attention = fmt::format("blocks.{}.attention", layer);
        look("q of " + attention, t.q);
        look("k of " + attention, t.k);
        look("v of " + attention, t.v);
        look("the indexer's loss of " + attention, t.indexer_loss);
    };
    options.watch = [this](const std::string& part, const Tensor& output) {
        look("the output of " + part, output);
    };
}

}  // namespace sieve
