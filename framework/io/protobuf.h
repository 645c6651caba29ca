// Writing protocol buffers by hand (https://protobuf.dev/programming-guides/encoding): a message is the
// concatenation of its fields, each a varint key (field number * 8 + wire type) and a value. Nothing is read.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <vector>

namespace sieve::protobuf {

class Message {
  public:
    void integer(uint32_t field, int64_t value);
    void float_number(uint32_t field, float value);
    void double_number(uint32_t field, double value);
    void bytes(uint32_t field, std::string_view value);  // a string, or bytes
    // Bytes that are referred to, not copied: they must live until the message is written.
    void reference(uint32_t field, std::string_view value);
    void message(uint32_t field, Message&& child);

    size_t size() const;
    std::vector<std::string_view> pieces() const;  // the message is their concatenation
    std::string joined() const;

  private:
    enum class Wire { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

    // Bytes of its own, or somebody else's.
    struct Part {
        std::string own;
        std::string_view other;
        std::string_view bytes() const { return other.data() ? other : std::string_view(own); }
    };

    std::string& text();  // the end of the message, where bytes of its own are added
    void varint(uint64_t value);
    void key(uint32_t field, Wire wire);
    void length_key(uint32_t field, size_t length);

    std::list<Part> parts_;
};

}  // namespace sieve::protobuf
