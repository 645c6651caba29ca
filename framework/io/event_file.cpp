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
    protobuf::Message event;
    event.double_number(1, wall_time);
    event.bytes(3, "brain.Event:2");
    return tf_record(event.joined());
}

std::string scalar_event(double wall_time, int64_t step, std::span<const Scalar> scalars) {
    protobuf::Message event, summary;
    for (const Scalar& scalar : scalars) {
        protobuf::Message value;
        value.bytes(1, scalar.tag);
        value.float_number(2, static_cast<float>(scalar.value));
        summary.message(1, std::move(value));
    }
    event.double_number(1, wall_time);
    event.integer(2, step);
    event.message(5, std::move(summary));
    return tf_record(event.joined());
}

}  // namespace sieve
