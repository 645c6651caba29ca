#include "framework/io/event_file.h"

#include "framework/io/crc32.h"
#include "framework/io/little_endian.h"
#include "framework/io/protobuf.h"

namespace sieve {
namespace {

// A CRC over data that contain CRCs is weak; hence this rotation and offset.
uint32_t masked_crc(std::string_view bytes) {
    const uint32_t crc = crc32c_of(bytes);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

}  // namespace

std::string tf_record(std::string_view payload) {
    std::string record;
    append_number(record, static_cast<uint64_t>(payload.size()));
    append_number(record, masked_crc(record));
    record += payload;
    append_number(record, masked_crc(payload));
    return record;
}

std::string event_file_header(double wall_time) {
    std::string event;
    protobuf::double_field(event, 1, wall_time);
    protobuf::bytes_field(event, 3, "brain.Event:2");
    return tf_record(event);
}

std::string scalar_event(double wall_time, int64_t step, std::span<const Scalar> scalars) {
    std::string summary;
    for (const Scalar& scalar : scalars) {
        std::string value;
        protobuf::bytes_field(value, 1, scalar.tag);
        protobuf::float_field(value, 2, static_cast<float>(scalar.value));
        protobuf::bytes_field(summary, 1, value);
    }
    std::string event;
    protobuf::double_field(event, 1, wall_time);
    protobuf::int_field(event, 2, step);
    protobuf::bytes_field(event, 5, summary);
    return tf_record(event);
}

}  // namespace sieve
