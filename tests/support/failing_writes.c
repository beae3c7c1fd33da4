/* Preloaded into a process, it lets the n-th change of a folder's files fail, as disks do.

   The environment's FAIL_AT says which. Counted are the calls of C that write, sync, grow, map room for, make or
   rename a file below the folder, but for its locks. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[4096], part[4096], call[32];
static long wanted, counted;
static int error, sticky, record = -1;

/* Reads "FOLDER|PART|CALL|N|ERRNO|STICKY|LOG": only paths with the part below the folder count, and
   only one call, or "any"; the log gets a line a call. */
static int asked(void) {
    const char *text = *folder ? NULL : getenv("FAIL_AT");
    char log[4096] = "";
    if (text && sscanf(text, "%4095[^|]|%4095[^|]|%31[^|]|%ld|%d|%d|%4095s", folder, part, call,
                       &wanted, &error, &sticky, log) >= 6 && *log)
        record = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    return *folder;
}

static int of_path(const char *path, const char *name) {
    if (!asked()) return 0;
    size_t length = strlen(folder), size = strlen(path);
    if (strncmp(path, folder, length) || (path[length] && path[length] != '/')) return 0;
    if (size >= 5 && !strcmp(path + size - 5, ".lock")) return 0;
    if (!strstr(path, part)) return 0;
    if (strcmp(call, "any") && strcmp(call, name)) return 0;
    long number = __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST);
    if (record >= 0) {
        char line[8192];
        int written = snprintf(line, sizeof line, "%ld %s %s\n", number, name, path + length);
        syscall(SYS_write, record, line, written);
    }
    return wanted && (sticky ? number >= wanted : number == wanted);
}

static int of_file(int file, const char *name) {
    char link[64], path[4096];
    if (!asked()) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return of_path(path, name);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAILS(fails) do { if (fails) { errno = error; return -1; } } while (0)
#define OF_FILE(type, name, label, parameters, arguments) \
    type name parameters { FAILS(of_file(file, label)); return REAL(name) arguments; }

OF_FILE(ssize_t, write, "write", (int file, const void *data, size_t size), (file, data, size))
OF_FILE(ssize_t, pwrite, "write", (int file, const void *data, size_t size, off_t at), (file, data, size, at))
OF_FILE(ssize_t, pwrite64, "write", (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
OF_FILE(ssize_t, writev, "write", (int file, const struct iovec *data, int count), (file, data, count))
OF_FILE(int, fsync, "fsync", (int file), (file))
OF_FILE(int, fdatasync, "fsync", (int file), (file))
OF_FILE(int, ftruncate, "truncate", (int file, off_t size), (file, size))
OF_FILE(int, ftruncate64, "truncate", (int file, off64_t size), (file, size))

int truncate(const char *path, off_t size) {
    FAILS(of_path(path, "truncate"));
    return REAL(truncate)(path, size);
}

int posix_fallocate(int file, off_t at, off_t size) {
    return of_file(file, "fallocate") ? error : REAL(posix_fallocate)(file, at, size);
}

int posix_fallocate64(int file, off64_t at, off64_t size) {
    return of_file(file, "fallocate") ? error : REAL(posix_fallocate64)(file, at, size);
}

int rename(const char *from, const char *to) {
    FAILS(of_path(to, "rename"));
    return REAL(rename)(from, to);
}

int mkdir(const char *path, mode_t mode) {
    FAILS(of_path(path, "mkdir"));
    return REAL(mkdir)(path, mode);
}

/* A file that is opened to be written, not made by stdio, which does not come here. */
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        FAILS(flags & O_CREAT && of_path(path, "open")); \
        return REAL(name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
