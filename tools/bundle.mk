# The Makefile of a bundle (tools/make_bundle.sh): g++, make and, for the GPU, the CUDA toolkit are all it needs.
#   make            the programs            make test       the tests, on the CPU and on a GPU if there is one
#   make test-gpu   the tests that need a GPU
# CUDA is built when nvcc is found in PATH or CUDA_HOME, whether or not there is a GPU: a bundle is made for one.
CXX ?= g++
CUDA_HOME ?= /usr/local/cuda
NVCC := $(or $(shell command -v nvcc 2> /dev/null),$(wildcard $(CUDA_HOME)/bin/nvcc))
MAKEFLAGS += -j$(shell nproc)

INCLUDES := -I. -isystem deps/include
DEFINES := -DFMT_HEADER_ONLY -DUTF8PROC_STATIC -DSIEVE_FONT='"$(CURDIR)/deps/fonts/DejaVuSans.ttf"'
CXXFLAGS := -std=c++20 -O3 -fopenmp -fno-math-errno -fno-trapping-math -fPIC -fno-semantic-interposition \
            -ftls-model=initial-exec $(DEFINES) $(INCLUDES)
NVCCFLAGS := -std=c++20 -O3 --extended-lambda -lineinfo -Xcompiler=-fPIC -gencode arch=compute_80,code=sm_80 \
             -gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90 -I.
# Debian has no archive of Oniguruma, and one of zlib that may not become part of a library (it is not compiled with
# -fPIC): their libraries go along, and are found by their place too.
LIBRARIES := -fopenmp deps/lib/libdeflate.a deps/lib/libzstd.a deps/lib/libutf8proc.a deps/lib/libonig.so.5 \
             deps/lib/libz.so.1 -ldl -Wl,-rpath,'$$ORIGIN/../deps/lib'

library := $(shell find framework models -name '*.cpp')
tests := $(filter-out tests/cuda_emulation/%,$(shell find tests -name '*.cpp'))
programs := $(basename $(wildcard experiments/*.cpp tools/*.cpp))
objects := $(library:%.cpp=build/%.o)
ifneq ($(NVCC),)
objects += $(patsubst %.cu,build/%.cu.o,$(shell find framework -name '*.cu'))
LIBRARIES += -L$(dir $(NVCC))../lib64 -Wl,-rpath,$(abspath $(dir $(NVCC))../lib64) -lcudart_static -lrt -lpthread
endif

.PHONY: all test test-gpu
.SECONDARY:
all: $(programs) build/sieve_tests

build/libsieve.so: $(objects)
	$(CXX) -shared -Wl,-Bsymbolic-functions $^ -o $@ $(LIBRARIES)

# The library is found by its place beside the programs.
$(programs): %: build/%.o build/libsieve.so
	$(CXX) $^ -o $@ -Wl,-rpath,'$$ORIGIN/../build' $(LIBRARIES)

build/sieve_tests: $(tests:%.cpp=build/%.o) build/libsieve.so
	$(CXX) $^ -o $@ -Wl,-rpath,'$$ORIGIN' $(LIBRARIES)

build/tests/support/source_dir.o: CXXFLAGS += -DSIEVE_SOURCE_DIR='"$(CURDIR)"'

build/%.o: %.cpp
	@mkdir -p $(dir $@)
	$(CXX) $(CXXFLAGS) -c $< -o $@

build/%.cu.o: %.cu
	@mkdir -p $(dir $@)
	$(NVCC) $(NVCCFLAGS) -c $< -o $@

test: all
	./tests/run.sh ./build/sieve_tests

test-gpu: build/sieve_tests
	./tests/gpu.sh ./build/sieve_tests
