/* A model checker for one writer and readers that write nothing.
 *
 * The modules built with SEAFOAM_MODEL call it for every atomic operation. It owns the recorded
 * history and the choices; it must never answer a load with a value that the C11 rules for
 * relaxed, acquire, release and fences forbid, and should be able to give every value that they
 * allow, whatever the machine underneath would do.
 *
 * How it works. The writer never reads what a reader wrote (readers write nothing), so what it
 * does depends on no reader. Its operations are therefore run once and recorded: for each aligned
 * word the history of its messages in program order, each with a time (a counter of stores), the
 * value, and the release view it carries. Readers are then run again and again against the
 * recording; each load may answer with any message that the reader's view does not rule out.
 *
 * Why that is exact, given one writer: a view of the memory as the writer announced it is always
 * "everything up to time t", so one number stands for it.
 *   message of a release store     carries its own time
 *   message of a relaxed store     carries the time of the writer's last release fence
 *   relaxed load of a message      pending = max(pending, carried); and coherence: this reader
 *                                  never again sees an older message of these bytes
 *   acquire load                   the same, and floor = max(floor, carried)
 *   acquire fence                  floor = max(floor, pending)
 *   a load may answer with         any message not older than the newest one at or below floor
 * These are the view-based rules of RC11 without load buffering, which cannot occur where readers
 * write nothing. A relaxed store by the same thread behind a release store does not extend it (the
 * rule of C++20, weaker than C11's release sequence, so more is tried).
 *
 * Why one reader is enough. Two readers share nothing but the writer's messages, so what one of
 * them may see does not depend on the other: every run of two is a pair of runs of one. Where one
 * tells the other something, the second begins with the first one's view, which is what a single
 * reader does that reads twice.
 *
 * Mixed sizes. A message belongs to an aligned 8-byte word and carries which of its bytes were
 * stored. A load answers for each of its bytes with one message, and a store that it takes for one
 * byte (itself or one that replaced it there) it takes for every other byte that was stored with
 * it: so no store is ever seen half, while stores to different bytes of one word may be seen in
 * any order, even by one load, as on machines that reorder them. C11 leaves mixed sizes
 * undefined; this is
 * what x86-64 and AArch64 promise for aligned accesses, and no more.
 *
 * Exploring is depth first over the choices, running the reader anew for each path. Two things
 * keep it small and lose nothing: an option whose value an older allowed message also has, with
 * no greater view, is skipped (the older one leads to more); and a reader that arrives in a
 * state already explored (the values loaded, the view) takes the newest message from there on.
 * States are compared by a 64-bit hash. After pauses_max calls of spin_pause in one run, loads
 * answer with the newest message, which bounds the retry loops.
 *
 * With strict recording, the page of a store is writable only inside it: a plain store of
 * the writer ends the process. Readers can be given a mapping of their own that nobody
 * may touch (model_alias): a plain load of a reader ends it too.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))

enum { ORDER_RELAXED = 0, ORDER_ACQUIRE = 1, ORDER_RELEASE = 2 };
enum { PHASE_IDLE = 0, PHASE_RECORDING = 1, PHASE_EXPLORING = 2 };
enum { MODE_EXHAUSTIVE = 0, MODE_RANDOM = 1 };
enum { WORD_BYTES = 8, WORDS_MAX = 1 << 16, TOUCHED_MAX = 1 << 14, DEPTH_MAX = 1 << 14,
       TRACE_MAX = 1 << 14, OPTIONS_MAX = 4096, PAGE_BYTES = 4096 };

typedef struct {
    uint32_t time;      /* 0 for what was there before the recording */
    uint32_t carried;   /* the release view, a time */
    uint64_t value;     /* the whole word after this store */
    uint32_t bytes;     /* bit i: byte i was stored */
} Message;

typedef struct {
    uint64_t address;   /* of the word; 0 for a free slot of the table */
    Message *messages;
    uint32_t count;
    uint32_t capacity;
    uint32_t execution; /* seen[] belongs to this execution */
    uint32_t seen[WORD_BYTES];
} Word;

typedef struct {
    uint32_t messages[WORD_BYTES]; /* for each byte loaded, which message answers */
    uint64_t value;                /* in place in the word; 0 where nothing is loaded */
    uint32_t carried;
} Option;

typedef struct {
    uint64_t address;
    uint64_t value;
    uint32_t size_bytes;
    uint32_t order;
    uint32_t option;       /* which of the answers allowed; 0 is the oldest */
    uint32_t option_count; /* 0: there was no choice, the newest was taken */
    uint32_t time;         /* of the newest message among its bytes; 0: from before */
} TraceRow;

typedef struct {
    uint32_t option_count;
    uint32_t option;
} Choice;

typedef struct {
    uint64_t execution_count;
    uint64_t load_count;
    uint64_t choice_count;  /* loads with more than one option, first visits only */
    uint64_t state_count;
    uint64_t store_count;
    uint64_t word_count;
    uint64_t depth_max;
    uint64_t fault;         /* 0, or a FAULT_ number: the run is void */
} Statistics;

enum { FAULT_NONE, FAULT_WORDS, FAULT_DEPTH, FAULT_OPTIONS, FAULT_REPLAY, FAULT_ALIGNMENT,
       FAULT_PLAIN_STORE, FAULT_OUTSIDE };

static __thread int phase = PHASE_IDLE;
static Word words[WORDS_MAX];
static uint32_t word_count;
static uint32_t now;            /* the writer's time */
static uint32_t writer_fence;   /* the time of its last release fence */
static int strict_recording;

static int mode;
static uint32_t execution;
static uint32_t view_floor, view_pending;
static uint32_t pause_count, pauses_max;
static int restart_on_pause;
static int newest_only;         /* from here on no choices in this execution */
static uint64_t path_hash;      /* the reader's local state: a function of what it loaded */
static uint64_t token;
static Word *touched[TOUCHED_MAX];
static uint32_t touched_count;
static Option options[OPTIONS_MAX];
static uint32_t option_count;   /* of the load at hand */
static Choice choices[DEPTH_MAX];
static uint32_t depth, choice_depth;
static uint64_t random_state;
static uint64_t *visited;
static uint64_t visited_capacity;
static Statistics statistics;
static TraceRow trace[TRACE_MAX];
static uint32_t trace_count;
static uint64_t alias_from, alias_to, alias_bytes, alias_reserved_bytes;

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t combine(uint64_t hash, uint64_t value)
{
    return mix(hash * 0x9e3779b97f4a7c15u + value + 1);
}

static uint64_t random_next(void)
{
    random_state += 0x9e3779b97f4a7c15u;
    return mix(random_state);
}

static Word *word_at(uint64_t address, int create)
{
    uint64_t slot = mix(address) & (WORDS_MAX - 1);
    while (words[slot].address != 0) {
        if (words[slot].address == address)
            return &words[slot];
        slot = (slot + 1) & (WORDS_MAX - 1);
    }
    if (!create)
        return NULL;
    if (word_count >= WORDS_MAX / 2) {
        statistics.fault = FAULT_WORDS;
        return NULL;
    }
    word_count++;
    words[slot].address = address;
    return &words[slot];
}

static void message_append(Word *word, Message message)
{
    if (word->count == word->capacity) {
        word->capacity = word->capacity ? 2 * word->capacity : 4;
        word->messages = realloc(word->messages, word->capacity * sizeof(Message));
        if (word->messages == NULL)
            abort();
    }
    word->messages[word->count++] = message;
}

static int misplaced(uint64_t address, unsigned size_bytes)
{
    return (size_bytes != 1 && size_bytes != 4 && size_bytes != 8) || address % size_bytes != 0;
}

static uint64_t value_mask(unsigned size_bytes)
{
    return size_bytes == 8 ? UINT64_MAX : (1ull << (8 * size_bytes)) - 1;
}

static void real_store(void *target, uint64_t value, unsigned size_bytes)
{
    if (size_bytes == 8)
        __atomic_store_n((uint64_t *)target, value, __ATOMIC_RELEASE);
    else if (size_bytes == 4)
        __atomic_store_n((uint32_t *)target, (uint32_t)value, __ATOMIC_RELEASE);
    else
        __atomic_store_n((uint8_t *)target, (uint8_t)value, __ATOMIC_RELEASE);
}

static uint64_t real_load(const void *source, unsigned size_bytes)
{
    if (size_bytes == 8)
        return __atomic_load_n((const uint64_t *)source, __ATOMIC_ACQUIRE);
    if (size_bytes == 4)
        return __atomic_load_n((const uint32_t *)source, __ATOMIC_ACQUIRE);
    return __atomic_load_n((const uint8_t *)source, __ATOMIC_ACQUIRE);
}

static void record_real(void *target, uint64_t value, unsigned size_bytes)
{
    uint64_t page = (uint64_t)target & ~(uint64_t)(PAGE_BYTES - 1);
    if (strict_recording && mprotect((void *)page, PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
        abort();
    real_store(target, value, size_bytes);
    if (strict_recording && mprotect((void *)page, PAGE_BYTES, PROT_READ) != 0)
        abort();
}

/* --- what the modules call ------------------------------------------------------------------ */

EXPORT void seafoam_model_store(void *target, uint64_t value, unsigned size_bytes, int order)
{
    uint64_t address = (uint64_t)target, word_address = address & ~7ull;
    unsigned shift = 8 * (unsigned)(address - word_address);
    Word *word;
    Message message;
    if (phase != PHASE_RECORDING) {
        real_store(target, value, size_bytes);
        return;
    }
    if (misplaced(address, size_bytes)) {
        statistics.fault = FAULT_ALIGNMENT;
        return;
    }
    word = word_at(word_address, 1);
    if (word == NULL)
        return;
    if (word->count == 0) {
        message = (Message){0, 0, *(const uint64_t *)word_address, 0xff};
        message_append(word, message);
    } else if (word->messages[word->count - 1].value != *(const uint64_t *)word_address) {
        statistics.fault = FAULT_PLAIN_STORE;
    }
    record_real(target, value, size_bytes);
    now++;
    message.time = now;
    message.carried = order == ORDER_RELEASE ? now : writer_fence;
    message.value = word->messages[word->count - 1].value & ~(value_mask(size_bytes) << shift);
    message.value |= (value & value_mask(size_bytes)) << shift;
    message.bytes = ((1u << size_bytes) - 1) << (address - word_address);
    message_append(word, message);
    statistics.store_count++;
}

/* The oldest message that may answer for this byte, given the view. */
static uint32_t oldest_allowed(const Word *word, unsigned byte)
{
    uint32_t index = word->count - 1;
    uint32_t bound = word->seen[byte] > view_floor ? word->seen[byte] : view_floor;
    while (!(word->messages[index].bytes >> byte & 1) || word->messages[index].time > bound)
        index--;
    return index;
}

static uint64_t state_hash(uint64_t address, unsigned size_bytes)
{
    uint64_t hash = combine(combine(path_hash, view_floor), combine(address, size_bytes));
    uint64_t seen_sum = 0;
    hash = combine(hash, view_pending > view_floor ? view_pending : 0);
    for (uint32_t i = 0; i < touched_count; i++)
        for (unsigned byte = 0; byte < WORD_BYTES; byte++)
            if (touched[i]->seen[byte] > view_floor)
                seen_sum += combine(touched[i]->address + byte, touched[i]->seen[byte]);
    return combine(hash, seen_sum) | 1;
}

static void visited_grow(void)
{
    uint64_t *old = visited, old_capacity = visited_capacity;
    visited_capacity = old_capacity ? 2 * old_capacity : 1 << 16;
    visited = calloc(visited_capacity, sizeof *visited);
    if (visited == NULL)
        abort();
    for (uint64_t i = 0; i < old_capacity; i++) {
        uint64_t slot = mix(old[i]) & (visited_capacity - 1);
        if (old[i] == 0)
            continue;
        while (visited[slot] != 0)
            slot = (slot + 1) & (visited_capacity - 1);
        visited[slot] = old[i];
    }
    free(old);
}

/* True where this state was there before; else remembers it. */
static int visit(uint64_t hash)
{
    uint64_t slot;
    if (statistics.state_count * 2 >= visited_capacity)
        visited_grow();
    slot = mix(hash) & (visited_capacity - 1);
    while (visited[slot] != 0) {
        if (visited[slot] == hash)
            return 1;
        slot = (slot + 1) & (visited_capacity - 1);
    }
    visited[slot] = hash;
    statistics.state_count++;
    return 0;
}

/* Which of the options (0 = oldest, last = newest) this execution takes. */
static uint32_t choose(uint64_t address, unsigned size_bytes)
{
    uint64_t luck;
    if (mode == MODE_RANDOM) {
        luck = random_next();
        statistics.choice_count++;
        if ((luck & 3) < 2)
            return luck & 1 ? option_count - 1 : 0;
        return (uint32_t)((luck >> 8) % option_count);
    }
    if (depth < choice_depth) {
        if (choices[depth].option_count != option_count)
            statistics.fault = FAULT_REPLAY;
        return choices[depth++].option;
    }
    if (visit(state_hash(address, size_bytes))) {
        newest_only = 1;
        return option_count - 1;
    }
    if (depth == DEPTH_MAX) {
        statistics.fault = FAULT_DEPTH;
        newest_only = 1;
        return option_count - 1;
    }
    statistics.choice_count++;
    choices[depth] = (Choice){option_count, 0};
    choice_depth = ++depth;
    if (depth > statistics.depth_max)
        statistics.depth_max = depth;
    return 0;
}

/* The newest message up to `index` that stored all of these bytes; 0 is what was there before. */
static uint32_t newest_of_all(const Word *word, uint32_t bytes, uint32_t index)
{
    while ((word->messages[index].bytes & bytes) != bytes)
        index--;
    return index;
}

/* Message `index` for `byte` beside those chosen for the bytes before it: is no store torn? */
static int whole(const Word *word, const Option *option, uint32_t bytes, unsigned byte,
                 uint32_t index)
{
    for (unsigned other = 0; other < byte; other++) {
        uint32_t both = 1u << byte | 1u << other, chosen = option->messages[other];
        if (!(bytes >> other & 1))
            continue;
        if (newest_of_all(word, both, index) > chosen || newest_of_all(word, both, chosen) > index)
            return 0;
    }
    return 1;
}

static int dominated(const Option *option, uint32_t bytes)
{
    for (uint32_t i = 0; i < option_count; i++) {
        const Option *older = &options[i];
        uint32_t later = 0;
        if (older->value != option->value || older->carried > option->carried)
            continue;
        for (unsigned byte = 0; byte < WORD_BYTES; byte++)
            if (bytes >> byte & 1)
                later |= older->messages[byte] > option->messages[byte];
        if (!later)
            return 1;
    }
    return 0;
}

/* Fills options[] with what this load may answer, oldest first, by byte after byte. */
static void options_collect(const Word *word, uint32_t bytes, unsigned byte, Option option)
{
    while (byte < WORD_BYTES && !(bytes >> byte & 1))
        byte++;
    if (byte == WORD_BYTES) {
        if (dominated(&option, bytes))
            return;
        if (option_count == OPTIONS_MAX)
            statistics.fault = FAULT_OPTIONS;
        else
            options[option_count++] = option;
        return;
    }
    for (uint32_t index = oldest_allowed(word, byte); index < word->count; index++) {
        const Message *message = &word->messages[index];
        Option next = option;
        if (!(message->bytes >> byte & 1) || !whole(word, &option, bytes, byte, index))
            continue;
        next.messages[byte] = index;
        next.value |= message->value & (0xffull << (8 * byte));
        if (message->carried > next.carried)
            next.carried = message->carried;
        options_collect(word, bytes, byte + 1, next);
    }
}

static Option newest_option(const Word *word, uint32_t bytes)
{
    Option option = {0};
    for (unsigned byte = 0; byte < WORD_BYTES; byte++) {
        uint32_t index = word->count - 1;
        if (!(bytes >> byte & 1))
            continue;
        while (!(word->messages[index].bytes >> byte & 1))
            index--;
        option.messages[byte] = index;
        option.value |= word->messages[index].value & (0xffull << (8 * byte));
        if (word->messages[index].carried > option.carried)
            option.carried = word->messages[index].carried;
    }
    return option;
}

static void trace_append(TraceRow row)
{
    if (trace_count < TRACE_MAX)
        trace[trace_count++] = row;
}

/* This execution's first look at a word since the reader began: nothing of it seen yet. */
static void touch(Word *word)
{
    if (word->execution == execution)
        return;
    word->execution = execution;
    memset(word->seen, 0, sizeof word->seen);
    if (touched_count == TOUCHED_MAX)
        statistics.fault = FAULT_WORDS;
    else
        touched[touched_count++] = word;
}

/* The reader's view after this answer; returns the time of its newest message. */
static uint32_t view_advance(Word *word, const Option *option, uint32_t bytes, int order)
{
    uint32_t newest = 0;
    for (unsigned byte = 0; byte < WORD_BYTES; byte++) {
        uint32_t time = word->messages[option->messages[byte]].time;
        if (!(bytes >> byte & 1))
            continue;
        if (time > word->seen[byte])
            word->seen[byte] = time;
        if (time > newest)
            newest = time;
    }
    if (option->carried > view_pending)
        view_pending = option->carried;
    if (order == ORDER_ACQUIRE && option->carried > view_floor)
        view_floor = option->carried;
    return newest;
}

EXPORT uint64_t seafoam_model_load(const void *source, unsigned size_bytes, int order)
{
    uint64_t address = (uint64_t)source;
    uint32_t bytes;
    Option option = {0};
    unsigned shift = 8 * (unsigned)(address & 7);
    TraceRow row = {0};
    Word *word;
    if (phase != PHASE_EXPLORING)
        return real_load(source, size_bytes);
    if (misplaced(address, size_bytes)) {
        statistics.fault = FAULT_ALIGNMENT;
        return 0;
    }
    if (address - alias_from < alias_bytes) {
        if (address - alias_from >= alias_reserved_bytes) {
            statistics.fault = FAULT_OUTSIDE;
            return 0;
        }
        address = address - alias_from + alias_to;
    }
    statistics.load_count++;
    row.address = address;
    row.size_bytes = size_bytes;
    row.order = (uint32_t)order;
    word = word_at(address & ~7ull, 0);
    if (word == NULL) {
        row.value = real_load((const void *)address, size_bytes);
        trace_append(row);
        return row.value;
    }
    touch(word);
    bytes = ((1u << size_bytes) - 1) << (address & 7);
    option_count = 0;
    if (newest_only) {
        option = newest_option(word, bytes);
    } else {
        options_collect(word, bytes, 0, option);
        row.option_count = option_count;
        if (option_count > 1)
            row.option = choose(address, size_bytes);
        option = options[row.option];
    }
    row.time = view_advance(word, &option, bytes, order);
    row.value = option.value >> shift & value_mask(size_bytes);
    path_hash = combine(path_hash, row.value);
    trace_append(row);
    return row.value;
}

EXPORT void seafoam_model_fence(int order)
{
    if (phase == PHASE_RECORDING && order == ORDER_RELEASE)
        writer_fence = now;
    if (phase == PHASE_EXPLORING && order == ORDER_ACQUIRE && view_pending > view_floor)
        view_floor = view_pending;
}

EXPORT void seafoam_model_pause(void)
{
    if (phase != PHASE_EXPLORING)
        return;
    pause_count++;
    if (restart_on_pause)
        path_hash = combine(token, pause_count);
    if (pause_count >= pauses_max) {
        newest_only = 1;
        view_floor = now;
    }
}

/* --- what the driver calls ------------------------------------------------------------------ */

EXPORT void model_reset(void)
{
    for (uint32_t i = 0; i < WORDS_MAX; i++)
        free(words[i].messages);
    memset(words, 0, sizeof words);
    memset(&statistics, 0, sizeof statistics);
    free(visited);
    visited = NULL;
    visited_capacity = 0;
    word_count = now = writer_fence = execution = trace_count = choice_depth = 0;
    alias_from = alias_to = alias_bytes = alias_reserved_bytes = 0;
    phase = PHASE_IDLE;
}

/* Loads in [from, from + size) are answered as if made at `to`; nothing is read at `from`. Those
 * at or beyond `reserved` are a fault: a reader that looks there makes the kernel find memory. */
EXPORT void model_alias(uint64_t from, uint64_t to, uint64_t size_bytes, uint64_t reserved_bytes)
{
    alias_from = from;
    alias_to = to;
    alias_bytes = size_bytes;
    alias_reserved_bytes = reserved_bytes;
}

/* strict: the caller has made the mapping read-only, each store opens its page for itself. */
EXPORT void model_record_begin(int strict)
{
    strict_recording = strict;
    phase = PHASE_RECORDING;
}

EXPORT uint32_t model_time(void)
{
    return now;
}

EXPORT void model_record_end(void)
{
    phase = PHASE_IDLE;
    strict_recording = 0;
    for (uint32_t i = 0; i < WORDS_MAX; i++)
        if (words[i].address != 0
            && words[i].messages[words[i].count - 1].value != *(uint64_t *)words[i].address)
            statistics.fault = FAULT_PLAIN_STORE;
    statistics.word_count = word_count;
}

EXPORT void model_explore_begin(int mode_wanted, uint64_t seed, uint32_t pauses, int restart)
{
    mode = mode_wanted;
    random_state = seed;
    pauses_max = pauses;
    restart_on_pause = restart;
    choice_depth = 0;
    statistics.execution_count = statistics.load_count = statistics.choice_count = 0;
    statistics.state_count = statistics.depth_max = 0;
    free(visited);
    visited = NULL;
    visited_capacity = 0;
}

/* The reader knows of everything up to known_time, as if it had been told by the writer. */
EXPORT void model_execution_begin(uint32_t known_time)
{
    execution++;
    view_floor = view_pending = known_time;
    pause_count = depth = touched_count = trace_count = 0;
    newest_only = 0;
    token = path_hash = 0;
    phase = PHASE_EXPLORING;
}

/* The reader's state is now this token (and its view): earlier loads are forgotten. */
EXPORT void model_checkpoint(uint64_t reader_token)
{
    token = path_hash = mix(reader_token + 1);
    pause_count = 0;
}

/* 1 while paths are left (always in random mode), -1 after a fault. */
EXPORT int model_execution_end(void)
{
    phase = PHASE_IDLE;
    statistics.execution_count++;
    if (statistics.fault != FAULT_NONE)
        return -1;
    if (mode == MODE_RANDOM)
        return 1;
    while (choice_depth > 0) {
        Choice *last = &choices[choice_depth - 1];
        if (++last->option < last->option_count)
            return 1;
        choice_depth--;
    }
    return 0;
}

EXPORT void model_statistics(Statistics *out)
{
    *out = statistics;
}

EXPORT uint32_t model_trace(TraceRow *out, uint32_t row_count_max)
{
    uint32_t row_count = trace_count < row_count_max ? trace_count : row_count_max;
    memcpy(out, trace, row_count * sizeof *out);
    return row_count;
}
