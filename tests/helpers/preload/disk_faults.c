/* Preloaded (LD_PRELOAD): calls of one kind fail on files below a folder, as on a disk that gives errors.

FAULT_BELOW: the folder. FAULT_KIND: open, create, read, ... as below. FAULT_ERRNO: the error's number, 0 for none.
FAULT_AT: the first call of the kind that fails, from 1 on. FAULT_LAST: the last one, 0 for all from there. FAULT_LOG: a
file elsewhere that the path of each such call is added to; with FAULT_AT 0, the kind of every call. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *folder, *kind, *journal;
static int number;
static long first, last;
static atomic_long calls;

__attribute__((constructor)) static void begin(void) {
    folder = getenv("FAULT_BELOW");
    kind = getenv("FAULT_KIND");
    journal = getenv("FAULT_LOG");
    number = atoi(getenv("FAULT_ERRNO") ?: "5");
    first = atol(getenv("FAULT_AT") ?: "0");
    last = atol(getenv("FAULT_LAST") ?: "0");
}

static void tell(const char *text) {
    int file = syscall(SYS_openat, AT_FDCWD, journal, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    char line[PATH_MAX + 2];
    int size = snprintf(line, sizeof line, "%s\n", text);
    syscall(SYS_write, file, line, size);
    syscall(SYS_close, file);
}

/* dodo.py, what its bytecode is kept in, and the list of names beside it are read by other programs. */
static int inside(const char *path) {
    size_t size = strlen(folder);
    if (strncmp(path, folder, size) || path[size] != '/' || !strcmp(path + size, "/.")) return 0;
    return !strstr(path, "/dodo.py") && !strstr(path, "__pycache__");
}

static int fails(const char *name, const char *path) {
    if (!folder || !journal || !inside(path)) return 0;
    int saved = errno;
    if (!first) { tell(name); errno = saved; return 0; }
    if (!kind || strcmp(kind, name)) return 0;
    long count = atomic_fetch_add(&calls, 1) + 1;
    if (count < first || (last && count > last)) return 0;
    tell(path);
    errno = number ? number : saved;
    return number != 0;
}

static int named(const char *name, int at, const char *path) {
    char place[PATH_MAX * 2] = "", link[64];
    if (!folder || !path) return 0;
    if (path[0] != '/') {
        if (at == AT_FDCWD) { if (!getcwd(place, PATH_MAX)) return 0; }
        else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, link, place, PATH_MAX - 1);
            if (size <= 0) return 0;
            place[size] = 0;
        }
        strcat(place, "/");
    }
    strncat(place, path, PATH_MAX - 1);
    return fails(name, place);
}

static int opened(const char *name, int file) {
    char link[64], path[PATH_MAX];
    int saved = errno;
    if (!folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    errno = saved;
    if (size <= 0) return 0;
    path[size] = 0;
    return fails(name, path);
}

#define CALL(...) syscall(__VA_ARGS__)
#define BY_FILE(type, name, kind, parameters, ...) \
    type name parameters { return opened(kind, file) ? (type)-1 : (type)CALL(__VA_ARGS__); }
#define BY_NAME(name, kind, at, path, parameters, ...) \
    int name parameters { return named(kind, at, path) ? -1 : (int)CALL(__VA_ARGS__); }

BY_FILE(ssize_t, read, "read", (int file, void *to, size_t n), SYS_read, file, to, n)
BY_FILE(ssize_t, pread, "read", (int file, void *to, size_t n, off_t at), SYS_pread64, file, to, n, at)
BY_FILE(ssize_t, pread64, "read", (int file, void *to, size_t n, off64_t at), SYS_pread64, file, to, n, at)
BY_FILE(ssize_t, readv, "read", (int file, const struct iovec *v, int n), SYS_readv, file, v, n)
BY_FILE(ssize_t, write, "write", (int file, const void *from, size_t n), SYS_write, file, from, n)
BY_FILE(ssize_t, pwrite, "write", (int file, const void *from, size_t n, off_t at), SYS_pwrite64, file, from, n, at)
BY_FILE(ssize_t, pwrite64, "write", (int file, const void *from, size_t n, off64_t at), SYS_pwrite64, file, from, n, at)
BY_FILE(ssize_t, writev, "write", (int file, const struct iovec *v, int n), SYS_writev, file, v, n)
BY_FILE(int, fsync, "sync", (int file), SYS_fsync, file)
BY_FILE(int, fdatasync, "sync", (int file), SYS_fdatasync, file)
BY_FILE(int, ftruncate, "truncate", (int file, off_t n), SYS_ftruncate, file, n)
BY_FILE(int, ftruncate64, "truncate", (int file, off64_t n), SYS_ftruncate, file, n)
BY_FILE(int, fallocate64, "truncate", (int file, int how, off64_t at, off64_t n), SYS_fallocate, file, how, at, n)
BY_FILE(int, flock, "lock", (int file, int how), SYS_flock, file, how)
BY_FILE(off_t, lseek, "seek", (int file, off_t at, int from), SYS_lseek, file, at, from)
BY_FILE(off64_t, lseek64, "seek", (int file, off64_t at, int from), SYS_lseek, file, at, from)
BY_FILE(int, fchmod, "chmod", (int file, mode_t mode), SYS_fchmod, file, mode)
BY_FILE(int, fstat, "fstat", (int file, struct stat *found), SYS_fstat, file, found)
BY_FILE(int, fstat64, "fstat", (int file, struct stat64 *found), SYS_fstat, file, found)

ssize_t copy_file_range(int from, off64_t *a, int file, off64_t *b, size_t n, unsigned flags) {
    return opened("copy", file) ? -1 : CALL(SYS_copy_file_range, from, a, file, b, n, flags);
}
ssize_t sendfile(int file, int from, off_t *a, size_t n) {
    return opened("copy", file) ? -1 : CALL(SYS_sendfile, file, from, a, n);
}
ssize_t sendfile64(int file, int from, off64_t *a, size_t n) {
    return opened("copy", file) ? -1 : CALL(SYS_sendfile, file, from, a, n);
}
int close(int file) {
    int failed = opened("close", file), done = CALL(SYS_close, file);
    if (failed) errno = number;
    return failed ? -1 : done;
}
void *mmap(void *at, size_t n, int rights, int how, int file, off_t from) {
    if (file >= 0 && opened("map", file)) return MAP_FAILED;
    return (void *)CALL(SYS_mmap, at, n, rights, how, file, from);
}
void *mmap64(void *at, size_t n, int rights, int how, int file, off64_t from) {
    return mmap(at, n, rights, how, file, from);
}

BY_NAME(renameat, "rename", b, to, (int a, const char *from, int b, const char *to), SYS_renameat, a, from, b, to)
BY_NAME(rename, "rename", AT_FDCWD, to, (const char *from, const char *to), SYS_renameat, AT_FDCWD, from, AT_FDCWD, to)
BY_NAME(linkat, "link", b, to, (int a, const char *from, int b, const char *to, int flags),
        SYS_linkat, a, from, b, to, flags)
BY_NAME(link, "link", AT_FDCWD, to, (const char *from, const char *to), SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0)
BY_NAME(symlink, "link", AT_FDCWD, to, (const char *from, const char *to), SYS_symlinkat, from, AT_FDCWD, to)
BY_NAME(unlinkat, "unlink", at, path, (int at, const char *path, int flags), SYS_unlinkat, at, path, flags)
BY_NAME(unlink, "unlink", AT_FDCWD, path, (const char *path), SYS_unlinkat, AT_FDCWD, path, 0)
BY_NAME(rmdir, "unlink", AT_FDCWD, path, (const char *path), SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)
BY_NAME(mkdir, "mkdir", AT_FDCWD, path, (const char *path, mode_t mode), SYS_mkdirat, AT_FDCWD, path, mode)
BY_NAME(mkdirat, "mkdir", at, path, (int at, const char *path, mode_t mode), SYS_mkdirat, at, path, mode)
BY_NAME(chmod, "chmod", AT_FDCWD, path, (const char *path, mode_t mode), SYS_fchmodat, AT_FDCWD, path, mode)
BY_NAME(utimensat, "utime", at, path, (int at, const char *path, const struct timespec times[2], int flags),
        SYS_utimensat, at, path, times, flags)
BY_NAME(stat, "stat", AT_FDCWD, path, (const char *path, struct stat *found),
        SYS_newfstatat, AT_FDCWD, path, found, 0)
BY_NAME(stat64, "stat", AT_FDCWD, path, (const char *path, struct stat64 *found),
        SYS_newfstatat, AT_FDCWD, path, found, 0)
BY_NAME(lstat, "stat", AT_FDCWD, path, (const char *path, struct stat *found),
        SYS_newfstatat, AT_FDCWD, path, found, AT_SYMLINK_NOFOLLOW)
BY_NAME(lstat64, "stat", AT_FDCWD, path, (const char *path, struct stat64 *found),
        SYS_newfstatat, AT_FDCWD, path, found, AT_SYMLINK_NOFOLLOW)
BY_NAME(fstatat, "stat", at, path, (int at, const char *path, struct stat *found, int flags),
        SYS_newfstatat, at, path, found, flags)
BY_NAME(fstatat64, "stat", at, path, (int at, const char *path, struct stat64 *found, int flags),
        SYS_newfstatat, at, path, found, flags)
BY_NAME(access, "stat", AT_FDCWD, path, (const char *path, int mode), SYS_faccessat, AT_FDCWD, path, mode)

static const char *kind_of(int flags) { return flags & (O_CREAT | __O_TMPFILE) ? "create" : "open"; }
#define OPEN(name, at_parameter, at)                                   \
    int name(at_parameter const char *path, int flags, ...) {          \
        va_list more;                                                  \
        va_start(more, flags);                                         \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                  \
        if (named(kind_of(flags), at, path)) return -1;                \
        return CALL(SYS_openat, at, path, flags, mode);                \
    }
#define NONE
#define AT int at,
OPEN(open, NONE, AT_FDCWD)
OPEN(open64, NONE, AT_FDCWD)
OPEN(openat, AT, at)
OPEN(openat64, AT, at)

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
FILE *fopen64(const char *path, const char *mode) {
    return named(mode[0] == 'r' ? "open" : "create", AT_FDCWD, path) ? NULL : REAL(fopen64)(path, mode);
}
FILE *fopen(const char *path, const char *mode) {
    return named(mode[0] == 'r' ? "open" : "create", AT_FDCWD, path) ? NULL : REAL(fopen)(path, mode);
}
DIR *opendir(const char *path) { return named("list", AT_FDCWD, path) ? NULL : REAL(opendir)(path); }
DIR *fdopendir(int file) { return opened("list", file) ? NULL : REAL(fdopendir)(file); }
struct dirent64 *readdir64(DIR *folder) { return opened("list", dirfd(folder)) ? NULL : REAL(readdir64)(folder); }
struct dirent *readdir(DIR *folder) { return opened("list", dirfd(folder)) ? NULL : REAL(readdir)(folder); }
int statvfs64(const char *path, struct statvfs64 *found) {
    return named("statvfs", AT_FDCWD, path) ? -1 : REAL(statvfs64)(path, found);
}
int statvfs(const char *path, struct statvfs *found) {
    return named("statvfs", AT_FDCWD, path) ? -1 : REAL(statvfs)(path, found);
}
int fcntl64(int file, int command, ...) {
    va_list more;
    va_start(more, command);
    void *argument = va_arg(more, void *);
    va_end(more);
    int locks = command == F_SETLK || command == F_SETLKW || command == F_GETLK;
    return locks && opened("lock", file) ? -1 : CALL(SYS_fcntl, file, command, argument);
}
int fcntl(int file, int command, ...) {
    va_list more;
    va_start(more, command);
    void *argument = va_arg(more, void *);
    va_end(more);
    int locks = command == F_SETLK || command == F_SETLKW || command == F_GETLK;
    return locks && opened("lock", file) ? -1 : CALL(SYS_fcntl, file, command, argument);
}
