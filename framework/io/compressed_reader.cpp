#include "framework/io/compressed_reader.h"

#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <bit>
#include <new>

#include "framework/core/error.h"

namespace sieve {
namespace {

constexpr std::string_view gzip_magic = "\x1F\x8B";
constexpr std::string_view zstd_magic = "\x28\xB5\x2F\xFD";

// One of 16 magic numbers begins a frame that says nothing of the text (RFC 8878, 3.1.2): pzstd puts one before each
// of its others.
bool begins_skippable_frame(std::string_view bytes) {
    constexpr std::string_view rest = "\x2A\x4D\x18";
    return bytes.size() >= 4 && (bytes[0] & 0xF0) == 0x50 && bytes.substr(1, 3) == rest;
}

}  // namespace

class CompressedReader::Decoder {
  public:
    virtual ~Decoder() = default;
    // Takes bytes from the front of `input` and puts what they stand for into `room`; returns how many bytes it put. Of
    // no input, at the file's end, it puts what it still held.
    virtual size_t decode(std::string_view& input, char* room, size_t size) = 0;
    // At the end of the file: throws when something is missing.
    virtual void finish() const = 0;
};

namespace {

class GzipDecoder : public CompressedReader::Decoder {
  public:
    explicit GzipDecoder(std::string path) : path_(std::move(path)) {
        constexpr int only_gzip = 16;
        if (inflateInit2(&stream_, MAX_WBITS + only_gzip) != Z_OK) throw std::bad_alloc();
    }
    ~GzipDecoder() override { inflateEnd(&stream_); }
    GzipDecoder(const GzipDecoder&) = delete;
    GzipDecoder& operator=(const GzipDecoder&) = delete;

    size_t decode(std::string_view& input, char* room, size_t size) override {
        if (between_members_ && input.empty()) return 0;
        if (between_members_) begin_member(input);
        // zlib's interface has no const; it does not write there.
        stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));  // NOLINT
        stream_.avail_in = static_cast<uInt>(input.size());
        stream_.next_out = reinterpret_cast<Bytef*>(room);
        stream_.avail_out = static_cast<uInt>(size);
        const int status = inflate(&stream_, Z_NO_FLUSH);
        input.remove_prefix(input.size() - stream_.avail_in);
        if (status == Z_MEM_ERROR) throw std::bad_alloc();
        if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
            fail_bad_file(path_ + ": its gzip data are damaged" +
                          (stream_.msg ? std::string(": ") + stream_.msg : ""));
        between_members_ = status == Z_STREAM_END;
        return size - stream_.avail_out;
    }
    void finish() const override {
        if (!between_members_) fail_bad_file(path_ + ": its gzip data end too early; is the file whole?");
    }

  private:
    void begin_member(std::string_view input) {
        if (input[0] != gzip_magic[0])
            fail_bad_file(path_ + ": behind its gzip data other bytes follow; is the file damaged?");
        inflateReset(&stream_);
    }

    std::string path_;
    z_stream stream_{};
    bool between_members_ = false;
};

// Windows are as large as the file may ask for by io/memory_budget.h's measure: --long=31 needs 2 GiB, which a file of
// a few kilobytes has no use for.
int most_window_log(std::optional<int64_t> file_bytes) {
    constexpr uint64_t allowance = 48'000'000, of_a_pipe = uint64_t{128} << 20;
    const uint64_t most = file_bytes ? static_cast<uint64_t>(*file_bytes) + allowance : of_a_pipe;
    const ZSTD_bounds logs = ZSTD_dParam_getBounds(ZSTD_d_windowLogMax);
    return std::clamp(static_cast<int>(std::bit_width(most)) - 1, logs.lowerBound, logs.upperBound);
}

class ZstdDecoder : public CompressedReader::Decoder {
  public:
    ZstdDecoder(std::string path, std::optional<int64_t> file_bytes)
        : path_(std::move(path)), stream_(ZSTD_createDStream(), ZSTD_freeDStream) {
        if (!stream_) throw std::bad_alloc();
        ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, most_window_log(file_bytes));
    }

    size_t decode(std::string_view& input, char* room, size_t size) override {
        if (between_frames_ && input.empty()) return 0;
        ZSTD_inBuffer in{input.data(), input.size(), 0};
        ZSTD_outBuffer out{room, size, 0};
        const size_t status = ZSTD_decompressStream(stream_.get(), &out, &in);
        if (ZSTD_isError(status)) refuse(status);
        input.remove_prefix(in.pos);
        between_frames_ = status == 0;
        if (between_frames_) had_a_frame_ = true;
        return out.pos;
    }
    void finish() const override {
        if (!between_frames_) fail_bad_file(path_ + ": its zstd data end too early; is the file whole?");
    }

  private:
    [[noreturn]] void refuse(size_t status) const {
        const ZSTD_ErrorCode code = ZSTD_getErrorCode(status);
        if (code == ZSTD_error_memory_allocation) throw std::bad_alloc();
        if (code == ZSTD_error_frameParameter_windowTooLarge)
            fail_bad_file(
                path_ +
                ": its zstd window is larger than a file of this size may ask for; unpack it first: "
                "zstd -d -M2048MB " +
                path_);
        if (code == ZSTD_error_prefix_unknown && had_a_frame_)
            fail_bad_file(path_ + ": behind its zstd data other bytes follow; is the file damaged?");
        fail_bad_file(path_ + ": its zstd data are damaged: " + ZSTD_getErrorName(status));
    }

    std::string path_;
    std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream_;
    bool between_frames_ = false, had_a_frame_ = false;
};

std::unique_ptr<CompressedReader::Decoder> decoder_of(Compression compression,
                                                      const std::filesystem::path& path,
                                                      std::optional<int64_t> file_bytes) {
    if (compression == Compression::gzip) return std::make_unique<GzipDecoder>(path.string());
    if (compression == Compression::zstd) return std::make_unique<ZstdDecoder>(path.string(), file_bytes);
    return nullptr;
}

}  // namespace

Compression compression_of(std::string_view first_bytes) {
    if (first_bytes.starts_with(gzip_magic)) return Compression::gzip;
    const bool zstd = first_bytes.starts_with(zstd_magic) || begins_skippable_frame(first_bytes);
    return zstd ? Compression::zstd : Compression::none;
}

CompressedReader::CompressedReader(const std::filesystem::path& path) : reader_(path) {
    input_ = reader_.next();
    compression_ = compression_of(input_);
    decoder_ = decoder_of(compression_, path, reader_.file_bytes());
}

CompressedReader::~CompressedReader() = default;

std::string_view CompressedReader::next() {
    if (!decoder_) {
        const std::string_view block = bytes_made_ == 0 ? input_ : reader_.next();
        bytes_made_ += std::ssize(block);
        return block;
    }
    block_.resize(block_bytes);
    size_t filled = 0;
    while (filled < block_.size()) {
        if (input_.empty()) input_ = reader_.next();
        const bool at_end = input_.empty();
        const size_t made = decoder_->decode(input_, block_.data() + filled, block_.size() - filled);
        filled += made;
        if (!at_end || made > 0) continue;
        decoder_->finish();
        break;
    }
    bytes_made_ += static_cast<int64_t>(filled);
    return {block_.data(), filled};
}

}  // namespace sieve
