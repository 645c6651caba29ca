#include "framework/io/event_file.h"

#include <fstream>

#include "framework/io/append_file.h"
#include "framework/io/atomic_file.h"
#include "framework/io/crc32.h"
#include "tests/support/python.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;

TEST_CASE("crc32c: the published check value and the vectors of RFC 3720") {
    CHECK(crc32c_of("123456789") == 0xE3069283);
    CHECK(crc32c_of("") == 0);
    CHECK(crc32c_of(std::string(32, '\0')) == 0x8A9136AA);
    CHECK(crc32c_of(std::string(32, '\xFF')) == 0x62A8AB43);
}

TEST_CASE("event files: TensorBoard's own reader finds every number, and no torn record") {
    const auto python = python_with("tensorboard");
    if (!python) return skip("no Python with tensorboard (PyPI: tensorboard)");
    const TemporaryFolder folder;
    const std::string path = folder / "events.out.tfevents.1.test";
    std::string bytes = event_file_header(1e9);
    for (int64_t step = 1; step <= 300; ++step)  // steps of one and of two bytes
        bytes += scalar_event(1e9 + static_cast<double>(step), step,
                              std::vector<Scalar>{{"train/loss", 1.0 / static_cast<double>(step)},
                                                  {"val/" + std::string(150, 'x'), -2.5}});
    write_file_atomic(path, bytes);
    std::string output;
    const std::string program =
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "events = EventAccumulator('" +
        path +
        "', size_guidance={'scalars': 0}).Reload()\n"
        "assert sorted(events.Tags()['scalars']) == ['train/loss', 'val/' + 'x' * 150]\n"
        "loss = events.Scalars('train/loss')\n"
        "assert [s.step for s in loss] == list(range(1, 301)), len(loss)\n"
        "assert all(abs(s.value * s.step - 1) < 1e-6 for s in loss)\n"
        "assert [s.wall_time for s in loss] == [1e9 + s.step for s in loss]\n"
        "assert all(s.value == -2.5 for s in events.Scalars('val/' + 'x' * 150))\n"
        "print('read')\n";
    const int status = run_python(*python, program, folder.path().string(), output);
    INFO(output);
    CHECK(status == 0);
    CHECK(output.find("read") != std::string::npos);
}

TEST_CASE("append file: records are added at the end; a path that cannot be opened is named") {
    const TemporaryFolder folder;
    write_file_atomic(folder / "log", "one\n");
    {
        AppendFile file(folder / "log");
        file.append("two\n");
        CHECK(read_file(folder / "log") == "one\ntwo\n");  // at once, not when it is closed
        file.append("");
        file.append("three\n");
    }
    CHECK(read_file(folder / "log") == "one\ntwo\nthree\n");
    check_error((folder / "no/log") + ": cannot write: No such file or directory",
                [&] { AppendFile file(folder / "no/log"); });
}
