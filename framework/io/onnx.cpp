#include "framework/io/onnx.h"

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "framework/io/protobuf.h"
#include "framework/io/tensor_bytes.h"

namespace sieve {
namespace {

constexpr int64_t ir_version = 8, opset_version = 17;
constexpr size_t largest_message = (size_t{1} << 31) - 1;

using protobuf::Message;

// The numbers below are those of the fields in onnx.proto.
enum AttributeType { attribute_float = 1, attribute_int = 2, attribute_string = 3, attribute_ints = 7 };

Message attribute_proto(const OnnxAttribute& attribute) {
    Message m;
    m.bytes(1, attribute.name);
    AttributeType type{};
    if (const auto* f = std::get_if<float>(&attribute.value)) {
        type = attribute_float;
        m.float_number(2, *f);
    } else if (const auto* i = std::get_if<int64_t>(&attribute.value)) {
        type = attribute_int;
        m.integer(3, *i);
    } else if (const auto* s = std::get_if<std::string>(&attribute.value)) {
        type = attribute_string;
        m.bytes(4, *s);
    } else {
        type = attribute_ints;
        for (const int64_t each : std::get<std::vector<int64_t>>(attribute.value)) m.integer(8, each);
    }
    m.integer(20, type);
    return m;
}

Message node_proto(const OnnxNode& node) {
    Message m;
    for (const std::string& input : node.inputs) m.bytes(1, input);
    for (const std::string& output : node.outputs) m.bytes(2, output);
    m.bytes(3, node.outputs.front());  // unique, so it serves as the node's name too
    m.bytes(4, node.op);
    for (const OnnxAttribute& attribute : node.attributes) m.message(5, attribute_proto(attribute));
    return m;
}

Message tensor_proto(const std::string& name, const Tensor& tensor) {
    Message m;
    for (const int64_t dim : tensor.shape()) m.integer(1, dim);
    m.integer(2, onnx_type(tensor.dtype()));
    m.bytes(8, name);
    m.reference(9, bytes_of(tensor));
    return m;
}

Message value_info_proto(const OnnxValue& value) {
    Message shape, tensor, type, m;
    for (const auto& dim : value.dims) {
        Message d;
        if (const auto* size = std::get_if<int64_t>(&dim))
            d.integer(1, *size);
        else
            d.bytes(2, std::get<std::string>(dim));
        shape.message(1, std::move(d));
    }
    tensor.integer(1, onnx_type(value.dtype));
    tensor.message(2, std::move(shape));
    type.message(1, std::move(tensor));
    m.bytes(1, value.name);
    m.message(2, std::move(type));
    return m;
}

Message graph_proto(const OnnxModel& model) {
    Message m;
    for (const OnnxNode& node : model.nodes) m.message(1, node_proto(node));
    m.bytes(2, model.name);
    for (const auto& [name, tensor] : model.weights) m.message(5, tensor_proto(name, tensor));
    for (const OnnxValue& value : model.inputs) m.message(11, value_info_proto(value));
    for (const OnnxValue& value : model.outputs) m.message(12, value_info_proto(value));
    return m;
}

Message model_proto(const OnnxModel& model) {
    Message opset, m;
    opset.bytes(1, "");  // the standard operators
    opset.integer(2, opset_version);
    m.integer(1, ir_version);
    m.bytes(2, "sieve");
    m.message(7, graph_proto(model));
    m.message(8, std::move(opset));
    for (const auto& [key, value] : model.metadata) {
        Message entry;
        entry.bytes(1, key);
        entry.bytes(2, value);
        m.message(14, std::move(entry));
    }
    return m;
}

}  // namespace

int64_t onnx_type(DType dtype) {
    switch (dtype) {
        case DType::float32:
            return 1;
        case DType::float64:
            return 11;
        case DType::int32:
            return 6;
        case DType::int64:
            return 7;
        case DType::uint8:
            return 2;
    }
    return 0;
}

void write_onnx(const std::string& path, const OnnxModel& model) {
    const Message message = model_proto(model);
    if (message.size() > largest_message)
        fail_bad_file(path + ": the model has " + std::to_string(message.size()) +
                      " bytes; an ONNX file holds at most 2147483647");
    const std::vector<std::string_view> pieces = message.pieces();
    write_file_atomic(path, pieces);
}

}  // namespace sieve
