// Which number was the first that is not finite: asked when a step or an evaluation failed, which then runs
// once more under observation. Costs nothing before that.
#pragma once

#include <optional>
#include <string>

#include "framework/core/error.h"
#include "models/transformer.h"

namespace sieve {

// A number for people; "nan" has no sign.
std::string text_of_number(double value);

// "nan (first at [5,17])"; nothing when all elements are finite. For a CUDA tensor this waits for the device.
std::optional<std::string> non_finite_element(const Tensor& tensor);

// "the weight blocks.0.norm1.weight is inf (first at [3])", of parameters and buffers; nothing when all are
// finite.
std::optional<std::string> non_finite_weight(const Transformer& model);

// "the gradient of blocks.3.attention.qkv.weight is nan (first at [5,17])": of the parameters that have one
// the last of the forward, which the backward reached first. (The embedding counts as first; it is also the
// output head.)
std::optional<std::string> non_finite_gradient(const Transformer& model);

// Remembers the first output of a forward that is not finite.
class FiniteWatch {
  public:
    // The forward with these options shows its outputs to this object, which must outlive it.
    void watch(ForwardOptions& options);
    void look(const std::string& what, const Tensor& tensor);
    // "the output of blocks.3.attention is nan (first at [0,5,17])"
    const std::optional<std::string>& found() const { return found_; }

  private:
    std::optional<std::string> found_;
};

// Runs f, which shows tensors to `watch`, and returns what it found; else the message of the Error(diverged)
// that ended f, if one did.
template <class F>
std::optional<std::string> first_non_finite(FiniteWatch& watch, const F& f) {
    std::optional<std::string> message;
    try {
        f();
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::diverged) throw;
        message = e.what();
    }
    return watch.found() ? watch.found() : message;
}

}  // namespace sieve
