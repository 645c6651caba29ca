# What people type:
#   make            build everything (installs missing Debian packages when it may), and get the corpus
#   make test       build and run all tests; the last line reads "N passed, N failed"
#   make sanitize   the same tests under the address and undefined-behaviour sanitizers
#   make clean      remove what was built (results, corpus and caches stay)

PACKAGES := g++ cmake ninja-build libfmt-dev doctest-dev libstb-dev nlohmann-json3-dev libcli11-dev \
            libopenblas-openmp-dev libdeflate-dev libxxhash-dev fonts-dejavu-core
WERROR ?= 0
JOBS ?= $(shell nproc)

.PHONY: all programs test sanitize corpus packages clean format

all: programs corpus

packages:
	@./tools/install_packages.sh $(PACKAGES)

build/build.ninja: CMakeLists.txt | packages
	@cmake -S . -B build -G Ninja -DSIEVE_WERROR=$(WERROR) > build.log 2>&1 || (cat build.log; rm -f build.log; exit 1)
	@rm -f build.log

programs: packages build/build.ninja
	@cmake -S . -B build -DSIEVE_WERROR=$(WERROR) > /dev/null
	@cmake --build build -j $(JOBS)

corpus: programs
	@./data/get_corpus.sh

test: programs
	@cmake --build build -j $(JOBS) --target sieve_tests
	@./build/sieve_tests

sanitize: packages
	@cmake -S . -B build/sanitize -G Ninja -DSIEVE_SANITIZE=ON > /dev/null
	@cmake --build build/sanitize -j $(JOBS) --target sieve_tests
	@./build/sanitize/sieve_tests

format:
	@git ls-files '*.cpp' '*.h' | xargs clang-format -i

clean:
	@rm -rf build experiments/exp3 experiments/exp4
	@rm -f $(patsubst %.cpp,%,$(wildcard tools/*.cpp))
