// ONNX models (https://onnx.ai/onnx/repo-docs/IR.html): a graph of operators, its weights and metadata,
// written as the protobuf message that onnx.proto describes. IR version 8, operator set 17. Nothing is read.
#pragma once

#include <map>
#include <string>
#include <variant>
#include <vector>

#include "framework/core/named_tensor.h"

namespace sieve {

struct OnnxAttribute {
    std::string name;
    std::variant<int64_t, float, std::string, std::vector<int64_t>> value;
};

// outputs = op(inputs); an empty input is an optional one that is left out.
struct OnnxNode {
    std::string op;
    std::vector<std::string> inputs, outputs;
    std::vector<OnnxAttribute> attributes;
};

// An input or output of the graph. A dim is a number, or the name of one that is known when the graph runs.
struct OnnxValue {
    std::string name;
    DType dtype;
    std::vector<std::variant<int64_t, std::string>> dims;
};

struct OnnxModel {
    std::string name;
    std::vector<OnnxValue> inputs, outputs;
    std::vector<OnnxNode> nodes;  // each after those whose outputs it reads
    NamedTensors weights;
    std::map<std::string, std::string> metadata;
};

// The number that stands for a dtype in attributes such as Cast's `to`.
int64_t onnx_type(DType dtype);
inline constexpr int64_t onnx_bool = 9;  // a type of the graph; weights cannot have it

// Writes atomically. Throws a bad_file error for a model of 2 GB or more: protobuf holds no larger message.
void write_onnx(const std::string& path, const OnnxModel& model);

}  // namespace sieve
