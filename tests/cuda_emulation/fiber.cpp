#include "tests/cuda_emulation/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <new>

#include "tests/cuda_emulation/sanitizer.h"

#ifdef __x86_64__
// void sieve_switch_stack(void** save, void* load): keeps the registers that a call preserves on the old
// stack, and returns on the new one.
extern "C" void sieve_switch_stack(void** save, void* load);
asm(R"(
.text
.globl sieve_switch_stack
.type sieve_switch_stack, @function
sieve_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size sieve_switch_stack, .-sieve_switch_stack
)");
#endif

namespace sieve::cuda_emulation {

namespace {

constexpr size_t stack_bytes = address_sanitizer ? 256 << 10 : 64 << 10;  // its red zones widen every frame

Fiber* running = nullptr;
#ifdef __x86_64__
void* scheduler_stack_pointer = nullptr;
#else
ucontext_t scheduler_context;
#endif
[[maybe_unused]] const void* scheduler_stack = nullptr;
[[maybe_unused]] size_t scheduler_stack_bytes = 0;

}  // namespace

Fiber::Fiber(Entry entry) : entry_(entry) {
    const size_t page = sysconf(_SC_PAGESIZE);
    void* mapping = mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) throw std::bad_alloc();
    mprotect(mapping, page, PROT_NONE);
    mapping_ = static_cast<char*>(mapping);
    stack_ = mapping_ + page;
    restart();
}

Fiber::~Fiber() {
    unpoison(stack_, stack_bytes);
    munmap(mapping_, stack_ - mapping_ + stack_bytes);
}

void Fiber::restart() {
    unpoison(stack_, stack_bytes);  // frames left behind by an abandoned run
    fake_stack_ = nullptr;
#ifdef __x86_64__
    // What sieve_switch_stack pops: six registers and the address of start(), which expects a misaligned
    // stack as after a call; the zero above it ends backtraces.
    auto* top = reinterpret_cast<void**>(stack_ + stack_bytes);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(&Fiber::start);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    stack_pointer_ = top;
#else
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_;
    context_.uc_stack.ss_size = stack_bytes;
    makecontext(&context_, &Fiber::start, 0);
#endif
}

void Fiber::resume() {
    running = this;
#ifdef __SANITIZE_ADDRESS__
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, stack_, stack_bytes);
#endif
#ifdef __x86_64__
    sieve_switch_stack(&scheduler_stack_pointer, stack_pointer_);
#else
    swapcontext(&scheduler_context, &context_);
#endif
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
    running = nullptr;
}

void Fiber::yield() {
    Fiber* self = running;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&self->fake_stack_, scheduler_stack, scheduler_stack_bytes);
#endif
#ifdef __x86_64__
    sieve_switch_stack(&self->stack_pointer_, scheduler_stack_pointer);
#else
    swapcontext(&self->context_, &scheduler_context);
#endif
    self->arrived();
}

void Fiber::arrived() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack_, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

void Fiber::start() {
    running->arrived();
    running->entry_();
    std::abort();
}

}  // namespace sieve::cuda_emulation
