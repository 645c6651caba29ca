// A stack of its own for each emulated thread, and the switch between it and the scheduler's stack.
#pragma once

#include <cstddef>

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace sieve::cuda_emulation {

class Fiber {
  public:
    using Entry = void (*)();  // never returns: it calls yield() for ever

    explicit Fiber(Entry entry);
    ~Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    // Runs the fiber until it yields. Called by the scheduler only.
    void resume();
    // Goes back to the scheduler. Called on the running fiber only.
    static void yield();
    // Forgets what is on the stack; the next resume() calls the entry anew.
    void restart();

  private:
    static void start();
    void arrived();  // the first thing done after each switch to the fiber

    Entry entry_;
    char* mapping_ = nullptr;  // a guard page, then the stack
    char* stack_ = nullptr;
    void* fake_stack_ = nullptr;  // of the address sanitizer
#ifdef __x86_64__
    void* stack_pointer_ = nullptr;
#else
    ucontext_t context_;
#endif
};

}  // namespace sieve::cuda_emulation
