/* What a shared segment asks of the operating system, in the few calls that differ between them.
 *
 * Owns the descriptor's making and sealing, reservation, and the lock whose word the kernel marks
 * when its owner dies. Must never map memory (segment.pyx does, alone) and never read or write
 * the segment apart from the lock.
 *
 * Linux: a memfd, sealed. After F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE the mapping made
 * before goes on working and fallocate still reserves; new writable mappings, pwrite and
 * truncation are refused, so no reader can be made to fault by another.
 * Elsewhere: a temporary file without a name, opened twice, once for reading only.
 */
#ifndef SEAFOAM_SEGMENT_SYSTEM_H
#define SEAFOAM_SEGMENT_SYSTEM_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#if defined(__linux__)

#include <linux/memfd.h>
#include <sys/syscall.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#define F_SEAL_SEAL 0x0001
#define F_SEAL_SHRINK 0x0002
#define F_SEAL_GROW 0x0004
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* A new, empty descriptor, or -1 with errno. read_only_fd stays -1: /proc can reopen a memfd. */
static inline int segment_open(int *read_only_fd)
{
    int fd;
    *read_only_fd = -1;
    fd = (int)syscall(SYS_memfd_create, "seafoam-map",
                      MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* a kernel older than that flag */
        fd = (int)syscall(SYS_memfd_create, "seafoam-map", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

/* To be called once the writer's mapping exists. 0, or -1 with errno. */
static inline int segment_seal(int fd)
{
    if (fcntl(fd, F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
        return -1;
    return fchmod(fd, 0444);
}

/* Whether nobody can shrink what is mapped, which would kill whoever reads it. */
static inline int segment_keeps_its_size(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK);
}

/* A descriptor that can only read, or -1 with errno. */
static inline int segment_reopen(int fd, int read_only_fd)
{
    char path[40];
    (void)read_only_fd;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* 0 or an errno. */
static inline int segment_allocate(int fd, uint64_t offset_bytes, uint64_t length_bytes)
{
    while (fallocate(fd, 0, (off_t)offset_bytes, (off_t)length_bytes) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

/* Locks the robust mutex for as long as the calling thread lives, and tells where in it the
 * kernel will leave its mark: the word that holds the owner's thread id. C libraries lay a mutex
 * out differently, so the word is looked for. 0 or an errno. */
static inline int owner_claim(void *mutex_memory, uint64_t mutex_bytes, uint64_t *word_bytes)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)mutex_memory;
    pthread_mutexattr_t attributes;
    uint32_t words[4];
    uint32_t thread = (uint32_t)syscall(SYS_gettid);
    int error;
    if (sizeof *mutex > mutex_bytes || sizeof *mutex < sizeof words)
        return ENOTSUP;
    if ((error = pthread_mutexattr_init(&attributes)) != 0)
        return error;
    if ((error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED)) == 0
        && (error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST)) == 0)
        error = pthread_mutex_init(mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    if (error != 0 || (error = pthread_mutex_lock(mutex)) != 0)
        return error;
    memcpy(words, mutex, sizeof words);
    for (*word_bytes = 0; *word_bytes < sizeof words; *word_bytes += sizeof words[0])
        if ((words[*word_bytes / sizeof words[0]] & 0x3fffffffu) == thread)
            return 0;
    pthread_mutex_unlock(mutex);
    return ENOTSUP;
}

/* 0, or EPERM where another thread than the owner asks: the kernel still knows the address. */
static inline int owner_release(void *mutex_memory)
{
    return pthread_mutex_unlock((pthread_mutex_t *)mutex_memory);
}

#else

static inline int segment_open(int *read_only_fd)
{
    char path[] = "/tmp/seafoam-map-XXXXXX";
    int fd = mkstemp(path);
    *read_only_fd = -1;
    if (fd < 0)
        return -1;
    *read_only_fd = open(path, O_RDONLY | O_CLOEXEC);
    unlink(path);
    if (*read_only_fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline int segment_seal(int fd)
{
    return fchmod(fd, 0444);
}

static inline int segment_keeps_its_size(int fd)
{
    (void)fd;
    return 1;
}

static inline int segment_reopen(int fd, int read_only_fd)
{
    (void)fd;
    return fcntl(read_only_fd, F_DUPFD_CLOEXEC, 0);
}

static inline int segment_allocate(int fd, uint64_t offset_bytes, uint64_t length_bytes)
{
    (void)fd, (void)offset_bytes, (void)length_bytes;
    return 0;
}

/* No robust mutexes here: readers see a writer that closes, not one that is killed. */
static inline int owner_claim(void *mutex_memory, uint64_t mutex_bytes, uint64_t *word_bytes)
{
    (void)mutex_memory;
    *word_bytes = mutex_bytes;
    return 0;
}

static inline int owner_release(void *mutex_memory)
{
    (void)mutex_memory;
    return 0;
}

#endif
#endif
