# What people type:
#   make            build everything (installs missing Debian packages when it may), and get the corpus
#   make test       build and run all tests; the last line reads "N passed, N failed, N skipped". The CUDA kernels run
#                   on an emulated device, under sanitizers and with shuffled threads, so that this needs no GPU
#   make test-gpu   the tests on a GPU, also under compute-sanitizer
#   make bundle     a folder that builds with make, g++ and the CUDA toolkit alone, for machines without internet
#   make sanitize   the CPU tests under the address and undefined-behaviour sanitizers
#   make format     set the sources as .clang-format says (make format-check: whether they are)
#   make tidy       clang-tidy with the checks of .clang-tidy: a few minutes on two cores. CI runs both checks on all files
#   make clean      remove what was built (results, corpus and caches stay)

PACKAGES := g++ cmake ninja-build libfmt-dev doctest-dev libstb-dev nlohmann-json3-dev libcli11-dev \
            libopenblas-openmp-dev libdeflate-dev libxxhash-dev fonts-dejavu-core
WERROR ?= 0
# For which GPUs CUDA code is compiled, as CMake writes it; empty: those of CMakeLists.txt.
CUDA_ARCHITECTURES ?=
# More flags for nvcc.
CUDA_FLAGS ?=
CMAKE_FLAGS = -DSIEVE_WERROR=$(WERROR) $(CUDA_ARCHITECTURES:%=-DCMAKE_CUDA_ARCHITECTURES='%') \
              $(CUDA_FLAGS:%=-DCMAKE_CUDA_FLAGS='%')
JOBS ?= $(shell nproc)

.PHONY: all programs test test-gpu bundle sanitize corpus packages clean format format-check tidy

all: programs corpus

packages:
	@./tools/install_packages.sh $(PACKAGES)

build/build.ninja: CMakeLists.txt | packages
	@cmake -S . -B build -G Ninja $(CMAKE_FLAGS) > build.log 2>&1 || (cat build.log; rm -f build.log; exit 1)
	@rm -f build.log

programs: packages build/build.ninja
	@cmake -S . -B build $(CMAKE_FLAGS) > /dev/null
	@cmake --build build -j $(JOBS)

corpus: programs
	@./data/get_corpus.sh

# The second and third run the same tests on the emulated CUDA device: once with its work deferred until the host waits,
# so that a missing wait shows, and twice with the threads in another order, so that a missing barrier does.
emulated := build/tests/cuda_emulation
# More test commands, run first.
CHECKS ?=
test: programs
	@cmake --build build -j $(JOBS) --target sieve_tests emulation_tests emulation_engine_tests
	@./tests/run.sh $(CHECKS) ./tests/inlined_kernels.sh ./tests/include_arrows.sh ./tests/include_arrows_test.sh \
	    ./build/sieve_tests --together "$(emulated)/emulation_engine_tests" \
	    "OMP_WAIT_POLICY=passive SIEVE_CUDA_EMULATION_SEED=1 SIEVE_CUDA_EMULATION_DEFERRED=1 $(emulated)/emulation_tests --devices=cuda -ts=device" \
	    "OMP_WAIT_POLICY=passive SIEVE_CUDA_EMULATION_SEED=2 $(emulated)/emulation_tests --devices=cuda -ts=device"

test-gpu: programs
	@cmake --build build -j $(JOBS) --target sieve_tests
	@./tests/gpu.sh build/sieve_tests

bundle: corpus
	@./tools/make_bundle.sh

sanitize: packages
	@cmake -S . -B build/sanitize -G Ninja -DSIEVE_SANITIZE=ON > /dev/null
	@cmake --build build/sanitize -j $(JOBS) --target sieve_tests
	@./build/sanitize/sieve_tests

format:
	@git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | xargs clang-format -i

format-check:
	@./tests/format.sh

tidy:
	@./tests/tidy.sh

clean:
	@rm -rf build experiments/exp3 experiments/exp4
	@rm -f $(patsubst %.cpp,%,$(wildcard tools/*.cpp))
