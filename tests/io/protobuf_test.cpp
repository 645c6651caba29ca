#include "framework/io/protobuf.h"

#include "tests/support/testing.h"

using namespace sieve;

TEST_CASE("protobuf: the encodings of its documentation") {
    protobuf::Message numbers;
    numbers.integer(1, 150);
    CHECK(numbers.joined() == "\x08\x96\x01");

    protobuf::Message text;
    text.bytes(2, "testing");
    CHECK(text.joined() == "\x12\x07testing");

    protobuf::Message parent;
    parent.message(3, std::move(numbers));
    CHECK(parent.joined() == "\x1A\x03\x08\x96\x01");

    protobuf::Message negative;
    negative.integer(16, -1);  // two bytes of key, ten of value
    CHECK(negative.joined() == "\x80\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01");

    protobuf::Message fixed;
    fixed.float_number(2, 1.0f);
    fixed.double_number(1, 1.0);
    CHECK(fixed.joined() == std::string("\x15\0\0\x80\x3F\x09\0\0\0\0\0\0\xF0\x3F", 14));
}

TEST_CASE("protobuf: bytes that are referred to are written like others, in place and not copied") {
    const std::string weights(300, 'w');
    protobuf::Message child;
    child.reference(9, weights);
    child.integer(1, 1);
    protobuf::Message message;
    message.message(2, std::move(child));
    message.bytes(3, "");
    const std::string expected = "\x12\xB1\x02\x4A\xAC\x02" + weights + "\x08\x01\x1A" + '\0';
    CHECK(message.joined() == expected);
    CHECK(message.size() == expected.size());
    std::string pieces;
    bool refers = false;
    for (const std::string_view piece : message.pieces()) {
        pieces += piece;
        refers = refers || piece.data() == weights.data();
    }
    CHECK(pieces == expected);
    CHECK(refers);
}

TEST_CASE("protobuf: a message without fields has no bytes, alone or in another") {
    protobuf::Message empty, message;
    CHECK(empty.joined().empty());
    message.message(1, std::move(empty));
    message.reference(2, "");
    CHECK(message.joined() == std::string("\x0A\0\x12\0", 4));
}
