/* The only atomic operations of the project, named by their ordering.
 *
 * Whatever two processes or threads may touch at once goes through here, one explicit ordering
 * for each access; a plain load or store of shared memory is a bug, even where x86 forgives it.
 * Owns no data. Must never hide an ordering behind a neutral name, and must never block.
 *
 * What each is for, in the words of a sequence lock (one writer, readers that write nothing):
 *
 *   load_relaxed_*          the words of a bucket or an entry, copied between two looks at its
 *                           sequence; also counters of which only the value matters.
 *   load_acquire_*          the first look at a sequence: what is read after it is at least as
 *                           new as that sequence says.
 *   store_relaxed_*         the writer's words between the odd and the even sequence.
 *   store_release_*         the even sequence, or a position that announces earlier writes:
 *                           whoever acquires it sees them all.
 *   validate_load_u32/u64   the second look: an acquire fence, then a relaxed load. If it gives
 *                           what the first look gave, nothing that was copied in between comes
 *                           from a later write. One call for each sequence to check.
 *   store_then_fence_u64    the odd sequence: a relaxed store, then a release fence. A reader
 *                           that copied any word stored behind it and then validates must see
 *                           the odd sequence or a later one. The same operation announces a
 *                           position that has to be visible before what follows it is
 *                           ("applying"), or marks an entry as being reused.
 *   fence_acquire/release   the bare fences, for a pattern the two names above do not cover.
 *   spin_pause              once before each retry of a reader's loop, and nowhere else: the
 *                           model checker counts it as the loop's boundary.
 *
 * Prefer validate_load_* and store_then_fence_u64 to bare fences, for ThreadSanitizer does not
 * model a fence that stands alone: under SEAFOAM_TSAN those of 64 bits become read-modify-writes
 * of the same location, which it does model. That is why readers need a writable mapping in that
 * mode, and why the writer must load such words through here too.
 *
 * Under SEAFOAM_MODEL every operation is a call of the checker in tests/model, which may answer
 * a load with any value that these orderings allow, not only with what this machine would give.
 *
 * Sizes may be mixed: an aligned 64-bit load over words that are stored in bytes or 32-bit parts
 * is one indivisible copy of its eight bytes on every machine that is supported (aligned
 * accesses to one word are single-copy atomic), and the checker gives it the same meaning.
 */
#ifndef SEAFOAM_ATOMICS_H
#define SEAFOAM_ATOMICS_H

#include <stdint.h>

#if defined(SEAFOAM_MODEL)

enum seafoam_model_order {
    SEAFOAM_MODEL_RELAXED = 0,
    SEAFOAM_MODEL_ACQUIRE = 1,
    SEAFOAM_MODEL_RELEASE = 2,
};

extern uint64_t seafoam_model_load(const void *source, unsigned size_bytes, int order);
extern void seafoam_model_store(void *target, uint64_t value, unsigned size_bytes, int order);
extern void seafoam_model_fence(int order);
extern void seafoam_model_pause(void);

#define SEAFOAM_LOAD(source, type, order) \
    ((type)seafoam_model_load((source), sizeof(type), SEAFOAM_MODEL_##order))
#define SEAFOAM_STORE(target, value, type, order) \
    seafoam_model_store((target), (value), sizeof(type), SEAFOAM_MODEL_##order)
#define SEAFOAM_FENCE(order) seafoam_model_fence(SEAFOAM_MODEL_##order)

#else

#define SEAFOAM_LOAD(source, type, order) __atomic_load_n((source), __ATOMIC_##order)
#define SEAFOAM_STORE(target, value, type, order) \
    __atomic_store_n((target), (value), __ATOMIC_##order)
#if defined(SEAFOAM_TSAN)
/* Only the compiler is held back: the named patterns below carry the ordering in this mode. */
#define SEAFOAM_FENCE(order) __atomic_signal_fence(__ATOMIC_##order)
#else
#define SEAFOAM_FENCE(order) __atomic_thread_fence(__ATOMIC_##order)
#endif

#endif

static inline uint8_t load_relaxed_u8(const uint8_t *source)
{
    return SEAFOAM_LOAD(source, uint8_t, RELAXED);
}

static inline uint32_t load_relaxed_u32(const uint32_t *source)
{
    return SEAFOAM_LOAD(source, uint32_t, RELAXED);
}

static inline uint64_t load_relaxed_u64(const uint64_t *source)
{
    return SEAFOAM_LOAD(source, uint64_t, RELAXED);
}

static inline uint32_t load_acquire_u32(const uint32_t *source)
{
    return SEAFOAM_LOAD(source, uint32_t, ACQUIRE);
}

static inline uint64_t load_acquire_u64(const uint64_t *source)
{
    return SEAFOAM_LOAD(source, uint64_t, ACQUIRE);
}

static inline void store_relaxed_u8(uint8_t *target, uint8_t value)
{
    SEAFOAM_STORE(target, value, uint8_t, RELAXED);
}

static inline void store_relaxed_u32(uint32_t *target, uint32_t value)
{
    SEAFOAM_STORE(target, value, uint32_t, RELAXED);
}

static inline void store_relaxed_u64(uint64_t *target, uint64_t value)
{
    SEAFOAM_STORE(target, value, uint64_t, RELAXED);
}

static inline void store_release_u32(uint32_t *target, uint32_t value)
{
    SEAFOAM_STORE(target, value, uint32_t, RELEASE);
}

static inline void store_release_u64(uint64_t *target, uint64_t value)
{
    SEAFOAM_STORE(target, value, uint64_t, RELEASE);
}

static inline void fence_acquire(void)
{
    SEAFOAM_FENCE(ACQUIRE);
}

static inline void fence_release(void)
{
    SEAFOAM_FENCE(RELEASE);
}

static inline uint32_t validate_load_u32(const uint32_t *source)
{
#if defined(SEAFOAM_TSAN)
    /* Not a read-modify-write: the one writer reads its own 32-bit words plainly. */
    return load_acquire_u32(source);
#else
    fence_acquire();
    return load_relaxed_u32(source);
#endif
}

static inline uint64_t validate_load_u64(const uint64_t *source)
{
#if defined(SEAFOAM_TSAN)
    return __atomic_fetch_add((uint64_t *)source, 0, __ATOMIC_ACQ_REL);
#else
    fence_acquire();
    return load_relaxed_u64(source);
#endif
}

static inline void store_then_fence_u64(uint64_t *target, uint64_t value)
{
#if defined(SEAFOAM_TSAN)
    (void)__atomic_exchange_n(target, value, __ATOMIC_ACQ_REL);
#else
    store_relaxed_u64(target, value);
    fence_release();
#endif
}

/* Tells the processor that a loop waits; the scheduler is not called. */
static inline void spin_pause(void)
{
#if defined(SEAFOAM_MODEL)
    seafoam_model_pause();
#elif defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif
