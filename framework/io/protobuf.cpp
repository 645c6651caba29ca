#include "framework/io/protobuf.h"

#include "framework/io/little_endian.h"

namespace sieve::protobuf {

void Message::integer(uint32_t field, int64_t value) {
    key(field, Wire::varint);
    varint(static_cast<uint64_t>(value));
}

void Message::float_number(uint32_t field, float value) {
    key(field, Wire::fixed32);
    append_number(text(), value);
}

void Message::double_number(uint32_t field, double value) {
    key(field, Wire::fixed64);
    append_number(text(), value);
}

void Message::bytes(uint32_t field, std::string_view value) {
    length_key(field, value.size());
    text() += value;
}

void Message::reference(uint32_t field, std::string_view value) {
    length_key(field, value.size());
    parts_.push_back({{}, value});
}

void Message::message(uint32_t field, Message&& child) {
    length_key(field, child.size());
    parts_.splice(parts_.end(), std::move(child.parts_));
}

size_t Message::size() const {
    size_t sum = 0;
    for (const Part& part : parts_) sum += part.bytes().size();
    return sum;
}

std::vector<std::string_view> Message::pieces() const {
    std::vector<std::string_view> all;
    for (const Part& part : parts_) all.push_back(part.bytes());
    return all;
}

std::string Message::joined() const {
    std::string all;
    for (const Part& part : parts_) all += part.bytes();
    return all;
}

std::string& Message::text() {
    if (parts_.empty() || parts_.back().other.data()) parts_.emplace_back();
    return parts_.back().own;
}

// Seven bits a byte, lowest first; the high bit says that more follow.
void Message::varint(uint64_t value) {
    std::string& bytes = text();
    for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
    bytes += static_cast<char>(value);
}

void Message::key(uint32_t field, Wire wire) {
    varint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire));
}

void Message::length_key(uint32_t field, size_t length) {
    key(field, Wire::bytes);
    varint(length);
}

}  // namespace sieve::protobuf
