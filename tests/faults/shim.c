/* What a program does to one directory: written down, or made to fail, or the last it does.
 *
 * Loaded by LD_PRELOAD. Owns the libc calls that change files, carries each out as the system call
 * of that name, and meddles only with those for what is below FAULTS_ROOT. Must never change what
 * the calls mean elsewhere, never take a lock (calls of several threads overlap as they would
 * without it), and never let a call pass unseen that changes a file: what it cannot write down
 * ends the process.
 *
 *   FAULTS_ROOT    the directory, an absolute path without links; without it nothing is done
 *   FAULTS_TRACE   a file to which every call is appended, as it begins and as it ends
 *   FAULTS_KINDS   which calls are counted, of KIND_NAMES, with commas; all but "look" if unset
 *   FAULTS_AT      the number, from 1, of the first call that is meddled with
 *   FAULTS_COUNT   how many are, from that one on; 1 if unset
 *   FAULTS_SYNC_US how many microseconds a sync takes longer: in memory it takes none, and what
 *                  queues up behind one is what a crash takes
 *   FAULTS_MODE    "fail" with FAULTS_ERRNO, "short" (writes half), "kill-before", "kill-after"
 *
 * A record of the trace is a struct record, then the path below the root, a rename's new path, and
 * the bytes. One system call appends it, so records of several threads do not mix, and a call is
 * over when its end is written: what another thread does on its account comes behind it.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
    KIND_MARK, KIND_CREATE, KIND_WRITE, KIND_SYNC, KIND_RENAME, KIND_UNLINK, KIND_RMDIR,
    KIND_MKDIR, KIND_RESERVE, KIND_TRUNCATE, KIND_LOOK, KIND_COUNT
};
static const char *const KIND_NAMES[KIND_COUNT] = {
    "mark", "create", "write", "sync", "rename", "unlink", "rmdir", "mkdir", "reserve",
    "truncate", "look"
};
enum phase { PHASE_BEGIN, PHASE_END };
enum mode { MODE_NONE, MODE_FAIL, MODE_SHORT, MODE_KILL_BEFORE, MODE_KILL_AFTER };

struct record {
    uint32_t kind, phase;
    uint64_t call_id;
    uint64_t inode;         /* of a file that is opened or made, only at the end */
    int64_t offset;         /* of a write; what a file is reserved or truncated to */
    int64_t result;
    uint32_t error;
    uint32_t is_new;        /* the call made the file; 2: it emptied one that was there */
    uint32_t path_bytes, new_path_bytes, data_bytes, padding;
};

struct call {
    struct record record;
    char path[PATH_MAX], new_path[PATH_MAX];
    const void *data;
    int is_last;
};

static char root[PATH_MAX];
static size_t root_bytes;
static int trace_fd = -1;
static uint32_t counted_kinds;
static uint64_t at, until, calls_count, records_count, sync_us;
static enum mode mode;
static int failing_errno;

static void give_up(const char *what)
{
    char line[200];
    int length = snprintf(line, sizeof line, "faults: %s\n", what);
    syscall(SYS_write, 2, line, (size_t)length);
    abort();
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static uint32_t kinds_named(const char *names)
{
    uint32_t kinds = 0;
    int kind;
    if (names == NULL)
        return ~(1u << KIND_LOOK);
    for (kind = 0; kind < KIND_COUNT; kind++) {
        const char *found = strstr(names, KIND_NAMES[kind]);
        if (found != NULL)
            kinds |= 1u << kind;
    }
    return kinds;
}

__attribute__((constructor)) static void begin_work(void)
{
    static const char *const modes[] = {"", "fail", "short", "kill-before", "kill-after"};
    const char *named = getenv("FAULTS_ROOT"), *trace = getenv("FAULTS_TRACE");
    const char *wanted = getenv("FAULTS_MODE");
    if (named == NULL || strlen(named) >= sizeof root)
        return;
    counted_kinds = kinds_named(getenv("FAULTS_KINDS"));
    at = number("FAULTS_AT", 0);
    until = at + number("FAULTS_COUNT", 1);
    sync_us = number("FAULTS_SYNC_US", 0);
    failing_errno = (int)number("FAULTS_ERRNO", EIO);
    for (mode = MODE_KILL_AFTER; wanted != NULL && mode != MODE_NONE; mode--)
        if (strcmp(wanted, modes[mode]) == 0)
            break;
    if (wanted == NULL)
        mode = MODE_NONE;
    if (trace != NULL) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, trace, O_WRONLY | O_CREAT | O_APPEND, 0600);
        /* Where it does not change the numbers that the program itself gets. */
        trace_fd = fcntl(fd, F_DUPFD_CLOEXEC, 250);
        if (fd < 0 || trace_fd < 0)
            give_up("the trace cannot be opened");
        close(fd);
    }
    strcpy(root, named);
    root_bytes = strlen(root);
}

/* -- what a call is about --------------------------------------------------------------------- */

static int is_below(const char *path)
{
    return root_bytes != 0 && strncmp(path, root, root_bytes) == 0
        && (path[root_bytes] == '/' || path[root_bytes] == 0);
}

static int path_of_fd(int fd, char *path)
{
    char link[40];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

/* Takes "." and ".." out of an absolute path; there are no links below the root. */
static void straighten(char *path)
{
    char *to = path, *from = path;
    while (*from != 0) {
        size_t length = strcspn(from + 1, "/");
        if (length == 2 && from[1] == '.' && from[2] == '.') {
            while (to > path && *--to != '/')
                ;
        } else if (length != 0 && !(length == 1 && from[1] == '.')) {
            memmove(to, from, length + 1);
            to += length + 1;
        }
        from += length + 1;
    }
    *to = 0;
}

/* The absolute path that a call names; 0 where it is none below the root. */
static int resolve(int directory_fd, const char *named, char *path)
{
    size_t length;
    if (root_bytes == 0 || named == NULL)
        return 0;
    if (named[0] == '/') {
        if (strlen(named) >= PATH_MAX)
            return 0;
        strcpy(path, named);
    } else {
        if (directory_fd == AT_FDCWD ? getcwd(path, PATH_MAX) == NULL
                                     : !path_of_fd(directory_fd, path))
            return 0;
        length = strlen(path);
        if (length + strlen(named) + 2 > PATH_MAX)
            return 0;
        path[length] = '/';
        strcpy(path + length + 1, named);
    }
    straighten(path);
    return is_below(path);
}

static void clear(struct call *call, enum kind kind)
{
    memset(&call->record, 0, sizeof call->record);
    call->record.kind = kind;
    call->new_path[0] = 0;
    call->data = NULL;
    call->is_last = 0;
}

static int is_about_fd(struct call *call, enum kind kind, int fd)
{
    struct stat status;
    int kept = errno;
    clear(call, kind);
    if (root_bytes == 0 || !path_of_fd(fd, call->path) || !is_below(call->path)
            || fstat(fd, &status) != 0) {
        errno = kept;
        return 0;
    }
    call->record.inode = status.st_ino;
    return 1;
}

static int is_about_path(struct call *call, enum kind kind, int directory_fd, const char *named)
{
    int kept = errno, is_ours;
    clear(call, kind);
    is_ours = resolve(directory_fd, named, call->path);
    errno = kept;
    return is_ours;
}

/* -- before and after a call ------------------------------------------------------------------ */

static const char *below(const char *path)
{
    const char *rest = path + (is_below(path) ? root_bytes : 0);
    return rest + (rest[0] == '/');
}

static void put(struct call *call, enum phase phase)
{
    const char *path = below(call->path), *new_path = below(call->new_path);
    struct iovec pieces[4];
    size_t total;
    if (trace_fd < 0)
        return;
    call->record.phase = phase;
    call->record.path_bytes = (uint32_t)strlen(path);
    call->record.new_path_bytes = (uint32_t)strlen(new_path);
    pieces[0] = (struct iovec){&call->record, sizeof call->record};
    pieces[1] = (struct iovec){(void *)path, call->record.path_bytes};
    pieces[2] = (struct iovec){(void *)new_path, call->record.new_path_bytes};
    pieces[3] = (struct iovec){(void *)call->data, call->record.data_bytes};
    if (phase == PHASE_END)
        pieces[3].iov_len = call->record.data_bytes = 0;
    total = sizeof call->record + pieces[1].iov_len + pieces[2].iov_len + pieces[3].iov_len;
    if (syscall(SYS_writev, trace_fd, pieces, 4) != (long)total)
        give_up("the trace cannot be written");
}

/* Whether the call is to be carried out; else errno says why not. */
static int begin(struct call *call)
{
    uint64_t call_number = 0;
    if (counted_kinds >> call->record.kind & 1)
        call_number = __atomic_add_fetch(&calls_count, 1, __ATOMIC_SEQ_CST);
    call->is_last = mode != MODE_NONE && call_number != 0 && call_number >= at
        && call_number < until;
    call->record.call_id = (uint64_t)getpid() << 32
        | __atomic_add_fetch(&records_count, 1, __ATOMIC_SEQ_CST);
    put(call, PHASE_BEGIN);
    if (call->record.kind == KIND_SYNC && sync_us != 0)
        usleep((useconds_t)sync_us);
    if (!call->is_last)
        return 1;
    if (mode == MODE_KILL_BEFORE)
        kill(getpid(), SIGKILL);
    if (mode == MODE_FAIL) {
        errno = failing_errno;
        return 0;
    }
    return 1;
}

static long end(struct call *call, long result)
{
    int kept = errno;
    call->record.result = result;
    call->record.error = result < 0 ? (uint32_t)kept : 0;
    put(call, PHASE_END);
    if (call->is_last && mode == MODE_KILL_AFTER)
        kill(getpid(), SIGKILL);
    errno = kept;
    return result;
}

/* The program's own wish that the call of this number, from now on, be its last. */
void faults_kill_before(const char *kinds, uint64_t call_number)
{
    counted_kinds = kinds_named(kinds);
    calls_count = 0;
    at = call_number;
    until = call_number + 1;
    mode = MODE_KILL_BEFORE;
}

/* A line of the program's own in the trace. */
void faults_mark(const char *text)
{
    struct call call;
    clear(&call, KIND_MARK);
    call.path[0] = 0;
    call.data = text;
    call.record.data_bytes = (uint32_t)strlen(text);
    put(&call, PHASE_BEGIN);
}

/* -- the calls: opening ----------------------------------------------------------------------- */

static int open_at(int directory_fd, const char *named, int flags, mode_t file_mode)
{
    struct call call;
    struct stat status;
    int changes = flags & (O_CREAT | O_TRUNC), is_there;
    long fd;
    if (!is_about_path(&call, changes ? KIND_CREATE : KIND_LOOK, directory_fd, named))
        return (int)syscall(SYS_openat, directory_fd, named, flags, file_mode);
    is_there = syscall(SYS_newfstatat, AT_FDCWD, call.path, &status, 0) == 0;
    fd = begin(&call) ? syscall(SYS_openat, directory_fd, named, flags, file_mode) : -1;
    if (fd >= 0 && fstat((int)fd, &status) == 0) {
        call.record.inode = status.st_ino;
        call.record.is_new = !is_there ? 1 : flags & O_TRUNC ? 2 : 0;
    }
    return (int)end(&call, fd);
}

static mode_t mode_of(int flags, va_list more)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

#define OPENING(name) \
    int name(const char *named, int flags, ...) \
    { \
        va_list more; \
        mode_t file_mode; \
        va_start(more, flags); \
        file_mode = mode_of(flags, more); \
        va_end(more); \
        return open_at(AT_FDCWD, named, flags, file_mode); \
    }
#define OPENING_AT(name) \
    int name(int directory_fd, const char *named, int flags, ...) \
    { \
        va_list more; \
        mode_t file_mode; \
        va_start(more, flags); \
        file_mode = mode_of(flags, more); \
        va_end(more); \
        return open_at(directory_fd, named, flags, file_mode); \
    }

OPENING(open)
OPENING(open64)
OPENING_AT(openat)
OPENING_AT(openat64)

/* -- writing ---------------------------------------------------------------------------------- */

static ssize_t write_at(struct call *call, int fd, const void *data, size_t size)
{
    call->data = data;
    call->record.data_bytes = (uint32_t)size;
    if (!begin(call))
        return end(call, -1);
    if (call->is_last && mode == MODE_SHORT)
        size /= 2;
    return end(call, syscall(SYS_pwrite64, fd, data, size, call->record.offset));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    struct call call;
    if (!is_about_fd(&call, KIND_WRITE, fd))
        return syscall(SYS_pwrite64, fd, data, size, offset);
    call.record.offset = offset;
    return write_at(&call, fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
    __attribute__((alias("pwrite")));

ssize_t write(int fd, const void *data, size_t size)
{
    struct call call;
    ssize_t written;
    if (!is_about_fd(&call, KIND_WRITE, fd))
        return syscall(SYS_write, fd, data, size);
    call.record.offset = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    written = write_at(&call, fd, data, size);
    if (written > 0) {
        int kept = errno;
        lseek(fd, call.record.offset + written, SEEK_SET);
        errno = kept;
    }
    return written;
}

/* Not needed by what is tested, and so not modelled: seen, and the end. */
#define REFUSED_FD(type, name, parameters, fd, system_call) \
    type name parameters \
    { \
        struct call call; \
        if (is_about_fd(&call, KIND_WRITE, fd)) \
            give_up(#name " is not understood here"); \
        return (type)system_call; \
    }

REFUSED_FD(ssize_t, writev, (int fd, const struct iovec *pieces, int count), fd,
           syscall(SYS_writev, fd, pieces, count))
REFUSED_FD(ssize_t, pwritev, (int fd, const struct iovec *pieces, int count, off_t offset), fd,
           syscall(SYS_pwritev, fd, pieces, count, offset, 0))
REFUSED_FD(ssize_t, pwritev64, (int fd, const struct iovec *pieces, int count, off64_t offset),
           fd, syscall(SYS_pwritev, fd, pieces, count, offset, 0))
REFUSED_FD(ssize_t, sendfile, (int fd, int from, off_t *offset, size_t size), fd,
           syscall(SYS_sendfile, fd, from, offset, size))
REFUSED_FD(ssize_t, sendfile64, (int fd, int from, off64_t *offset, size_t size), fd,
           syscall(SYS_sendfile, fd, from, offset, size))

REFUSED_FD(ssize_t, pwritev64v2,
           (int fd, const struct iovec *pieces, int count, off64_t offset, int flags), fd,
           syscall(SYS_pwritev2, fd, pieces, count, offset, 0, flags))

REFUSED_FD(ssize_t, copy_file_range,
           (int from, off64_t *from_offset, int fd, off64_t *offset, size_t size,
            unsigned int flags), fd,
           syscall(SYS_copy_file_range, from, from_offset, fd, offset, size, flags))

void *mmap(void *wanted, size_t size, int protection, int flags, int fd, off_t offset)
{
    struct call call;
    if (fd >= 0 && protection & PROT_WRITE && (flags & MAP_TYPE) != MAP_PRIVATE
            && is_about_fd(&call, KIND_WRITE, fd))
        give_up("a writable mapping is not understood here");
    return (void *)syscall(SYS_mmap, wanted, size, protection, flags, fd, offset);
}

void *mmap64(void *wanted, size_t size, int protection, int flags, int fd, off64_t offset)
    __attribute__((alias("mmap")));

/* -- syncing, reserving, cutting -------------------------------------------------------------- */

#define ON_FD(name, kind, system_call) \
    int name(int fd) \
    { \
        struct call call; \
        if (!is_about_fd(&call, kind, fd)) \
            return (int)syscall(system_call, fd); \
        return (int)end(&call, begin(&call) ? syscall(system_call, fd) : -1); \
    }

ON_FD(fsync, KIND_SYNC, SYS_fsync)
ON_FD(fdatasync, KIND_SYNC, SYS_fdatasync)

int fallocate(int fd, int flags, off_t offset, off_t size)
{
    struct call call;
    if (!is_about_fd(&call, KIND_RESERVE, fd))
        return (int)syscall(SYS_fallocate, fd, flags, offset, size);
    if (flags != 0)
        give_up("fallocate with flags is not understood here");
    call.record.offset = offset + size;
    return (int)end(&call, begin(&call) ? syscall(SYS_fallocate, fd, flags, offset, size) : -1);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    int kept = errno, failed = fallocate(fd, 0, offset, size) == 0 ? 0 : errno;
    errno = kept;
    return failed;
}

int fallocate64(int fd, int flags, off64_t offset, off64_t size)
    __attribute__((alias("fallocate")));
int posix_fallocate64(int fd, off64_t offset, off64_t size)
    __attribute__((alias("posix_fallocate")));

int ftruncate(int fd, off_t size)
{
    struct call call;
    if (!is_about_fd(&call, KIND_TRUNCATE, fd))
        return (int)syscall(SYS_ftruncate, fd, size);
    call.record.offset = size;
    return (int)end(&call, begin(&call) ? syscall(SYS_ftruncate, fd, size) : -1);
}

int ftruncate64(int fd, off64_t size) __attribute__((alias("ftruncate")));

/* -- names ------------------------------------------------------------------------------------ */

static int rename_at(int from_fd, const char *from, int to_fd, const char *to)
{
    struct call call;
    char target[PATH_MAX];
    int is_to_ours = resolve(to_fd, to, target);
    if (!is_about_path(&call, KIND_RENAME, from_fd, from)) {
        if (is_to_ours)
            give_up("a rename from elsewhere is not understood here");
        return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
    }
    if (!is_to_ours)
        give_up("a rename to elsewhere is not understood here");
    strcpy(call.new_path, target);
    return (int)end(&call, begin(&call) ? syscall(SYS_renameat2, from_fd, from, to_fd, to, 0)
                                        : -1);
}

int rename(const char *from, const char *to)
{
    return rename_at(AT_FDCWD, from, AT_FDCWD, to);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return rename_at(from_fd, from, to_fd, to);
}

int unlinkat(int directory_fd, const char *named, int flags)
{
    struct call call;
    enum kind kind = flags & AT_REMOVEDIR ? KIND_RMDIR : KIND_UNLINK;
    if (!is_about_path(&call, kind, directory_fd, named))
        return (int)syscall(SYS_unlinkat, directory_fd, named, flags);
    return (int)end(&call, begin(&call) ? syscall(SYS_unlinkat, directory_fd, named, flags) : -1);
}

int unlink(const char *named)
{
    return unlinkat(AT_FDCWD, named, 0);
}

int rmdir(const char *named)
{
    return unlinkat(AT_FDCWD, named, AT_REMOVEDIR);
}

int mkdirat(int directory_fd, const char *named, mode_t file_mode)
{
    struct call call;
    struct stat status;
    long result;
    if (!is_about_path(&call, KIND_MKDIR, directory_fd, named))
        return (int)syscall(SYS_mkdirat, directory_fd, named, file_mode);
    result = begin(&call) ? syscall(SYS_mkdirat, directory_fd, named, file_mode) : -1;
    if (result == 0 && syscall(SYS_newfstatat, AT_FDCWD, call.path, &status, 0) == 0)
        call.record.inode = status.st_ino;
    return (int)end(&call, result);
}

int mkdir(const char *named, mode_t file_mode)
{
    return mkdirat(AT_FDCWD, named, file_mode);
}

#define REFUSED_PATH(name, parameters, directory_fd, named, system_call) \
    int name parameters \
    { \
        struct call call; \
        if (is_about_path(&call, KIND_RENAME, directory_fd, named)) \
            give_up(#name " is not understood here"); \
        return (int)system_call; \
    }

REFUSED_PATH(link, (const char *from, const char *to), AT_FDCWD, to,
             syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0))
REFUSED_PATH(linkat, (int from_fd, const char *from, int to_fd, const char *to, int flags), to_fd,
             to, syscall(SYS_linkat, from_fd, from, to_fd, to, flags))
REFUSED_PATH(symlink, (const char *from, const char *to), AT_FDCWD, to,
             syscall(SYS_symlinkat, from, AT_FDCWD, to))
REFUSED_PATH(symlinkat, (const char *from, int to_fd, const char *to), to_fd, to,
             syscall(SYS_symlinkat, from, to_fd, to))
REFUSED_PATH(truncate, (const char *named, off_t size), AT_FDCWD, named,
             syscall(SYS_truncate, named, size))
REFUSED_PATH(truncate64, (const char *named, off64_t size), AT_FDCWD, named,
             syscall(SYS_truncate, named, size))
