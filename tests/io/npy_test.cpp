#include "framework/io/npy.h"

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "tests/support/python.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

namespace {

const std::vector<Shape> shapes = {{}, {0}, {1}, {3, 0, 2}, {7}, {2, 3, 5}, {1, 1, 1, 1, 1, 2}};
const std::vector<DType> dtypes = {DType::float32, DType::float64, DType::int32, DType::int64, DType::uint8};

// A file in .npy format 1.0 with this header text.
void write_with_header(const std::string& path, const std::string& header, const std::string& payload) {
    std::string bytes("\x93NUMPY\x01\x00", 8);
    bytes += static_cast<char>(header.size());
    bytes += '\0';
    write_file_atomic(path, bytes + header + payload);
}

}  // namespace

TEST_CASE("npy: every dtype and shape survives") {
    const TemporaryFolder folder;
    for (const DType dtype : dtypes)
        for (const Shape& shape : shapes) {
            const Tensor x = random_uniform(shape, 1, 0, 100, dtype);
            write_npy(folder / "x.npy", x);
            CHECK(bit_identical(read_npy(folder / "x.npy"), x));
        }
}

TEST_CASE("npz: names and order survive") {
    const TemporaryFolder folder;
    NamedTensors tensors;
    for (const DType dtype : dtypes)
        tensors.push_back({name_of(dtype), random_uniform({2, 3}, 1, 0, 9, dtype)});
    write_npz(folder / "x.npz", tensors);
    const NamedTensors back = read_npz(folder / "x.npz");
    REQUIRE(back.size() == tensors.size());
    for (size_t i = 0; i < back.size(); ++i) {
        CHECK(back[i].name == tensors[i].name);
        CHECK(bit_identical(back[i].tensor, tensors[i].tensor));
    }
}

TEST_CASE("npy: whole numbers of every width, and none that is no whole number") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.npy";
    const auto write = [&](const std::string& type, const std::string& payload, int64_t count) {
        write_with_header(
            path,
            "{'descr': '" + type + "', 'fortran_order': False, 'shape': (" + std::to_string(count) + ",), }",
            payload);
    };
    struct Case {
        const char* type;
        std::string payload;
        DType dtype;
        std::vector<int64_t> values;
    };
    const std::string high(8, '\xFF'), top("\0\0\0\0\0\0\0\x40", 8);
    for (const Case& c : {Case{"|i1", "\x7F\x80", DType::int32, {127, -128}},
                          Case{"|u1", "\x7F\x80", DType::uint8, {127, 128}},
                          Case{"<i2", "\x01\x80\xFF\x7F", DType::int32, {-32767, 32767}},
                          Case{"<u2", "\x01\x80\xFF\xFF", DType::int32, {32769, 65535}},
                          Case{"<i4", high, DType::int32, {-1, -1}},
                          Case{"<u4", high, DType::int64, {4294967295, 4294967295}},
                          Case{"<i8", high + top, DType::int64, {-1, int64_t{1} << 62}},
                          Case{"<u8", top + top, DType::int64, {int64_t{1} << 62, int64_t{1} << 62}}}) {
        INFO(c.type);
        write(c.type, c.payload, 2);
        CHECK(read_npy(path).dtype() == c.dtype);
        CHECK(read_npy_integers(path).to_vector<int64_t>() == c.values);
    }
    write("<u8", top + high, 2);
    check_error(path + ": element 1 is 18446744073709551615, want less than 2^63", [&] { read_npy(path); });
    write("<u4", "abc", 1);
    check_error(path + ": 3 bytes for an array [1] of '<u4'", [&] { read_npy(path); });
    write(">i4", "1234", 1);
    check_error(
        path +
            ": its elements are '>i4'; read are <f4, <f8, whole numbers of 8 to 64 bits (little-endian) and "
            "|b1",
        [&] { read_npy_integers(path); });
    write("<f4", "1234", 1);
    check_error(path + ": its elements are '<f4' (floats), want whole numbers",
                [&] { read_npy_integers(path); });
    write("|b1", "\x01", 1);
    check_error(path + ": its elements are '|b1' (truth values), want whole numbers",
                [&] { read_npy_integers(path); });
}

TEST_CASE("npy: foreign and damaged files are refused by name") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.npy";
    write_with_header(path, "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1), }", "1234");
    check_error(path + ": in Fortran order; save np.ascontiguousarray(x) instead", [&] { read_npy(path); });
    write_with_header(path, "{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", "1234");
    check_error(path +
                    ": its elements are '>f4'; read are <f4, <f8, whole numbers of 8 to 64 bits "
                    "(little-endian) and |b1",
                [&] { read_npy(path); });
    write_with_header(path, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "1234");
    check_error(path + ": a structured array; only plain numbers are read", [&] { read_npy(path); });
    write_with_header(path, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "1234");
    check_error(path + ": 4 bytes for an array [3] of '<f4'", [&] { read_npy(path); });
    write_with_header(path, "{'descr': '<f4', 'shape': (9223372036854775807, 9), 'fortran_order': False}",
                      "1234");
    CHECK_THROWS_AS(read_npy(path), Error);
    write_with_header(path, "{'descr': '<f4' ", "1234");
    check_error(path + ": its .npy header is malformed", [&] { read_npy(path); });
    write_file_atomic(path, "hello");
    check_error(path + ": not an .npy array (truncated or another format)", [&] { read_npy(path); });
    check_error(path + ": not a .npz archive (truncated or another format)", [&] { read_npz(path); });
}

TEST_CASE("npy: truncated anywhere, only an Error comes out") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.npy";
    write_npy(path, random_normal({5, 3}, 1));
    const std::string whole = read_file(path);
    for (size_t size = 0; size < whole.size(); ++size) {
        write_file_atomic(path, whole.substr(0, size));
        CHECK_THROWS_AS(read_npy(path), Error);
    }
}

TEST_CASE("npy: numpy reads ours and we read numpy's") {
    const auto python = python_with_torch();
    if (!python) return skip("no Python with PyTorch and NumPy found");
    const TemporaryFolder folder;
    write_npy(folder / "ours.npy", Tensor::from<float>({1.5f, -2, 3, 4, 5, 6}, {2, 3}));
    write_npy(folder / "mask.npy", Tensor::from<uint8_t>({1, 0, 1}, {3}), NpyBool::yes);
    write_npz(folder / "ours.npz",
              {{"a", Tensor::from<int64_t>({7, -8}, {2, 1})}, {"b", Tensor::full({}, 2.5)}});
    std::string output;
    const int status = run_python(*python, R"(
import numpy as np
x = np.load('ours.npy'); assert x.dtype == np.float32 and x.tolist() == [[1.5, -2, 3], [4, 5, 6]]
m = np.load('mask.npy'); assert m.dtype == bool and m.tolist() == [True, False, True]
z = np.load('ours.npz'); assert z['a'].tolist() == [[7], [-8]] and z['b'].shape == () and z['b'] == 2.5
np.save('theirs.npy', np.arange(12, dtype=np.int32).reshape(3, 4))
np.save('scalar.npy', np.float64(0.25))
np.save('bool.npy', np.array([[True], [False]]))
np.save('fortran.npy', np.asfortranarray(np.ones((2, 3))))
np.lib.format.write_array(open('v2.npy', 'wb'), np.arange(3.0), version=(2, 0))
np.savez('theirs.npz', a=np.arange(3), b=np.ones((2, 0), np.float32))
np.savez_compressed('small.npz', a=np.arange(3))
)",
                                  folder.path().string(), output);
    REQUIRE_MESSAGE(status == 0, output);
    CHECK(bit_identical(read_npy(folder / "theirs.npy"),
                        Tensor::from<int32_t>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, {3, 4})));
    CHECK(read_npy(folder / "scalar.npy").item() == 0.25);
    CHECK(bit_identical(read_npy(folder / "bool.npy"), Tensor::from<uint8_t>({1, 0}, {2, 1})));
    CHECK(bit_identical(read_npy(folder / "v2.npy"), Tensor::from<double>({0, 1, 2}, {3})));
    CHECK_THROWS_AS(read_npy(folder / "fortran.npy"), Error);
    const NamedTensors theirs = read_npz(folder / "theirs.npz");
    REQUIRE(theirs.size() == 2);
    CHECK(bit_identical(theirs[0].tensor, Tensor::from<int64_t>({0, 1, 2}, {3})));
    CHECK(theirs[1].tensor.shape() == Shape{2, 0});
    check_error(folder / "small.npz" + ": member a.npy is compressed; only stored members are read",
                [&] { read_npz(folder / "small.npz"); });
}
