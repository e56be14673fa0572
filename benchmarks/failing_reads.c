// A library to preload (LD_PRELOAD): reads below a folder fail at random, as on an unreliable file system.
//
// Nothing fails until `failing_reads(seed, one_in, folder)` is called in the process; from then on every call that opens for
// reading, lists, stats, reads or maps a file whose path contains `folder` fails once in `one_in` times, with a random error.

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[4096];
static unsigned one_in;
static _Atomic uint64_t state, failed;
static const int errors[] = {EACCES, ESTALE, ENODEV, EIO, EMFILE, ENOLCK};

void failing_reads(uint64_t seed, unsigned often, const char *below) {
    strncpy(folder, below, sizeof folder - 1);
    state = seed * 2 + 1;
    one_in = often;
}

uint64_t failed_reads(void) { return failed; }

static uint64_t draw(void) {  // splitmix64
    uint64_t z = atomic_fetch_add(&state, 0x9e3779b97f4a7c15) + 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static int fails(const char *path) {
    if (!one_in || !path || !strstr(path, folder) || draw() % one_in) return 0;
    errno = errors[draw() % (sizeof errors / sizeof *errors)];
    failed++;
    return 1;
}

static int fails_at(int descriptor) {
    if (!one_in || descriptor < 3) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define READS(flags) (((flags) & O_ACCMODE) == O_RDONLY)
#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); }

int open(const char *path, int flags, ...) { MODE(flags) return READS(flags) && fails(path) ? -1 : REAL(open)(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return READS(flags) && fails(path) ? -1 : REAL(open64)(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return READS(flags) && fails(path) ? -1 : REAL(openat)(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return READS(flags) && fails(path) ? -1 : REAL(openat64)(at, path, flags, mode); }
ssize_t read(int descriptor, void *buffer, size_t size) { return fails_at(descriptor) ? -1 : REAL(read)(descriptor, buffer, size); }
ssize_t pread64(int descriptor, void *buffer, size_t size, off64_t at) { return fails_at(descriptor) ? -1 : REAL(pread64)(descriptor, buffer, size, at); }
int stat(const char *path, struct stat *found) { return fails(path) ? -1 : REAL(stat)(path, found); }
int stat64(const char *path, struct stat64 *found) { return fails(path) ? -1 : REAL(stat64)(path, found); }
int lstat(const char *path, struct stat *found) { return fails(path) ? -1 : REAL(lstat)(path, found); }
int lstat64(const char *path, struct stat64 *found) { return fails(path) ? -1 : REAL(lstat64)(path, found); }
int fstatat(int at, const char *path, struct stat *found, int flags) { return fails(path) ? -1 : REAL(fstatat)(at, path, found, flags); }
int fstatat64(int at, const char *path, struct stat64 *found, int flags) { return fails(path) ? -1 : REAL(fstatat64)(at, path, found, flags); }
DIR *opendir(const char *path) { return fails(path) ? NULL : REAL(opendir)(path); }
struct dirent64 *readdir64(DIR *listed) { return fails_at(dirfd(listed)) ? NULL : REAL(readdir64)(listed); }
void *mmap64(void *at, size_t size, int rights, int flags, int descriptor, off64_t from) {
    return fails_at(descriptor) ? MAP_FAILED : REAL(mmap64)(at, size, rights, flags, descriptor, from);
}
