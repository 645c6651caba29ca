# What people type:
#   make            build everything (installs missing Debian packages when it may), and get the corpus. CUDA code is
#                   compiled when there is a GPU, for that GPU
#   make CUDA=1     the same with CUDA code whether or not there is a GPU; make CUDA=0 without it
#   make test       build and run all tests; the last line reads "N passed, N failed, N skipped". The CUDA kernels run
#                   on an emulated device, under sanitizers and with shuffled threads, so that this needs no GPU
#   make test-gpu   the tests on a GPU, also under compute-sanitizer
#   make bundle     a folder that builds with make, g++ and the CUDA toolkit alone, for machines without internet
#   make test-full  every check in its full form: hours. Ends with a scorecard, which is written to docs/reliability.md
#   make sanitize   the CPU tests under the address, leak and undefined-behaviour sanitizers
#   make fuzz       libFuzzer on the readers of all formats, under the same sanitizers, SECONDS each (needs clang)
#   make tsan       the tests of the threaded parts under ThreadSanitizer (clang and LLVM's OpenMP)
#   make coverage   which lines the CPU tests run, by folder
#   make mutants    whether the tests catch each of the broken lines of a list (tests/mutations.txt)
#   make cppcheck   cppcheck over the sources
#   make format     set the sources as .clang-format says (make format-check: whether they are)
#   make tidy       clang-tidy with the checks of .clang-tidy: a few minutes on two cores. CI runs both checks on all files
#   make clean      remove what was built (results, corpus and caches stay)
# Every make decides by its own arguments: a CUDA=1 given before is not remembered.

PACKAGES := g++ cmake ninja-build libfmt-dev doctest-dev libstb-dev nlohmann-json3-dev libcli11-dev \
            libtomlplusplus-dev libdeflate-dev zlib1g-dev libzstd-dev libxxhash-dev libonig-dev libutf8proc-dev fonts-dejavu-core
WERROR ?= 0
# For which GPUs CUDA code is compiled, as CMake writes it (this asks for CUDA too); empty: for this machine's, or where
# there is none for the default of tools/find_cuda.cmake.
CUDA_ARCHITECTURES ?=
CUDA ?= $(if $(CUDA_ARCHITECTURES),1,auto)
# More flags for nvcc.
CUDA_FLAGS ?=
JOBS ?= $(shell nproc)

SIEVE_CUDA_1 := ON
SIEVE_CUDA_0 := OFF
SIEVE_CUDA_auto := AUTO
CMAKE_FLAGS = -DSIEVE_WERROR=$(WERROR) -DSIEVE_CUDA=$(or $(SIEVE_CUDA_$(CUDA)),$(error CUDA=$(CUDA): want 1 or 0)) \
              $(or $(CUDA_ARCHITECTURES:%=-DCMAKE_CUDA_ARCHITECTURES='%'),-UCMAKE_CUDA_ARCHITECTURES) \
              -DCMAKE_CUDA_FLAGS='$(CUDA_FLAGS)' --no-warn-unused-cli

.PHONY: all programs test test-full test-gpu bundle sanitize fuzz fuzz-build tsan coverage mutants cppcheck corpus packages clean format \
    format-check tidy

all: programs corpus

packages:
	@./tools/install_packages.sh $(PACKAGES)

# CMake's own messages go to build.log; what it found goes to the terminal. A build folder of another generator stays.
programs: packages
	@cmake -S . -B build $(if $(wildcard build/CMakeCache.txt),,-G Ninja) $(CMAKE_FLAGS) > build.log || (cat build.log; exit 1)
	@rm -f build.log
	@cmake --build build -j $(JOBS)

corpus: programs
	@./data/get_corpus.sh

# The second and third run the same tests on the emulated CUDA device: once with its work deferred until the host waits,
# so that a missing wait shows, and twice with the threads in another order, so that a missing barrier does.
emulated := build/tests/cuda_emulation
# More test commands, run first.
CHECKS ?=
test: programs
	@cmake --build build -j $(JOBS) --target sieve_tests mutation_tests emulation_tests emulation_engine_tests
	@./tests/run.sh $(CHECKS) ./tests/inlined_kernels.sh ./tests/build_size.sh ./tests/find_cuda.sh \
	    ./tests/include_arrows.sh ./tests/include_arrows_test.sh "./tests/mutation_check.sh --texts" ./build/sieve_tests ./build/tests/fuzz/mutation_tests \
	    --together ./tests/first_gpu_run.sh ./tests/install.sh "$(emulated)/emulation_engine_tests" \
	    "OMP_WAIT_POLICY=passive SIEVE_CUDA_EMULATION_SEED=1 SIEVE_CUDA_EMULATION_DEFERRED=1 $(emulated)/emulation_tests --devices=cuda -ts=device" \
	    "OMP_WAIT_POLICY=passive SIEVE_CUDA_EMULATION_SEED=2 $(emulated)/emulation_tests --devices=cuda -ts=device"

test-gpu: CUDA = 1
test-gpu: programs
	@cmake --build build -j $(JOBS) --target sieve_tests
	@./tests/gpu.sh build/sieve_tests

bundle: corpus
	@./tools/make_bundle.sh

test-full: programs
	@./tools/install_packages.sh clang clang-tidy libomp-dev cppcheck gcovr || true
	@cmake --build build -j $(JOBS) --target sieve_tests
	@./tests/reliability.sh

sanitize: packages
	@JOBS=$(JOBS) ./tests/sanitize.sh

tsan: packages
	@JOBS=$(JOBS) ./tests/tsan.sh

coverage: packages
	@JOBS=$(JOBS) ./tests/coverage.sh

mutants: packages
	@JOBS=$(JOBS) ./tests/mutation_check.sh

cppcheck:
	@./tests/cppcheck.sh

SECONDS ?= 20
TARGETS ?= fuzz_targets
fuzz-build: packages
	@cmake -S . -B build/fuzz -G Ninja -DSIEVE_CUDA=OFF -DSIEVE_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++ > /dev/null
	@cmake --build build/fuzz -j $(JOBS) --target $(TARGETS)

fuzz: fuzz-build
	@./tests/fuzz/run.sh build/fuzz/tests/fuzz $(SECONDS)

format:
	@git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | xargs clang-format -i

format-check:
	@./tests/format.sh

tidy:
	@./tests/tidy.sh

clean:
	@rm -rf build $(patsubst %.cpp,%,$(wildcard experiments/*.cpp))
	@rm -f $(patsubst %.cpp,%,$(wildcard tools/*.cpp))
