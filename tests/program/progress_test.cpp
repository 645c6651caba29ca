#include "framework/program/progress.h"

#include <cmath>

#include "tests/support/testing.h"

using namespace sieve;

namespace {

const StepReport report{.step = 1234,
                        .steps = 5000,
                        .loss = 4.56789,
                        .learning_rate = 3e-4,
                        .grad_norm = 1.5,
                        .tokens_per_second = 12345.6,
                        .val_loss = 4.8,
                        .seconds_left = 3723};

}  // namespace

TEST_CASE("progress: the line holds what fits its columns, the step and the time left longest") {
    CHECK(progress_line("sparse", report, 120) ==
          "sparse 1234/5000 | loss 4.5679 | val 4.8000 | lr 3.00e-04 | grad 1.50 | 12346 tok/s | ETA 1 h 2 "
          "min");
    CHECK(progress_line("sparse", report, 77) ==
          "sparse 1234/5000 | loss 4.5679 | val 4.8000 | 12346 tok/s | ETA 1 h 2 min");
    CHECK(progress_line("sparse", report, 60) ==
          "sparse 1234/5000 | loss 4.5679 | val 4.8000 | ETA 1 h 2 min");
    CHECK(progress_line("sparse", report, 40) == "sparse 1234/5000 | ETA 1 h 2 min");
    CHECK(progress_line("sparse", report, 20) == "sparse 1234/5000");
    CHECK(progress_line("sparse", report, 6) == "sparse");
    for (size_t columns = 1; columns < 130; ++columns) {
        CAPTURE(columns);
        CHECK(progress_line("sparse", report, columns).size() <= columns);
    }
}

TEST_CASE("progress: there is no validation loss before the first evaluation") {
    StepReport first = report;
    first.val_loss = NAN;
    CHECK(progress_line("classic", first, 200) ==
          "classic 1234/5000 | loss 4.5679 | lr 3.00e-04 | grad 1.50 | 12346 tok/s | ETA 1 h 2 min");
}

TEST_CASE("progress: how far reading a text has come, how fast, and how long it still takes") {
    CHECK(loading_line("encoding a.txt", {.done = 41'000'000, .total = 100'000'000, .rate = 52.4e6}) ==
          "encoding a.txt: 41 %, 52 MB/s, ETA 1 s");
    CHECK(loading_line("reading <pipe>", {.done = 5 << 20, .total = 0, .rate = 1e6}) ==
          "reading <pipe>: 5 MiB, 1 MB/s");
    CHECK(loading_line("making the tokens of a.txt",
                       {.done = 1024, .total = 4096, .rate = 40, .unit = DataUnit::tokens}) ==
          "making the tokens of a.txt: 25 %, ETA 1 min 17 s");
    CHECK(loading_line("encoding a.txt", {.done = 0, .total = 10, .rate = 0}) ==
          "encoding a.txt: 0 %, 0 MB/s");
}
