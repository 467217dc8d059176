/* A layer between a program and the C library that fails, or dies, at a chosen write.
 *
 * Loaded with LD_PRELOAD; armed from Python through ctypes. Counts calls that change or sync a
 * file whose path holds the marker: pwrite, write, ftruncate, fsync, fdatasync, rename.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char marker[256] = "";
static long calls, fail_at, unsynced, syncs;
static int fail_errno; /* 0: the process dies instead, as by kill -9 */

void fault_arm(const char *path_part, long nth, int error) {
    snprintf(marker, sizeof marker, "%s", path_part);
    calls = 0;
    unsynced = 0;
    syncs = 0;
    fail_at = nth;
    fail_errno = error;
}
long fault_calls(void) { return calls; }
long fault_unsynced(void) { return unsynced; }
long fault_syncs(void) { return syncs; }

static int watched(int fd) {
    char link[64], path[512];
    if (!marker[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return strstr(path, marker) != NULL;
}

/* 1 if this call is to fail with errno set. */
static int fault(void) {
    if (++calls != fail_at) return 0;
    if (fail_errno == 0) raise(SIGKILL);
    errno = fail_errno;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    if (watched(fd)) { if (fault()) return -1; unsynced++; }
    return REAL(pwrite64)(fd, data, size, at);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    if (watched(fd)) { if (fault()) return -1; unsynced++; }
    return REAL(pwrite)(fd, data, size, at);
}
ssize_t write(int fd, const void *data, size_t size) {
    if (watched(fd)) { if (fault()) return -1; unsynced++; }
    return REAL(write)(fd, data, size);
}
int ftruncate64(int fd, off64_t size) {
    if (watched(fd) && fault()) return -1;
    return REAL(ftruncate64)(fd, size);
}
int ftruncate(int fd, off_t size) {
    if (watched(fd) && fault()) return -1;
    return REAL(ftruncate)(fd, size);
}
int fsync(int fd) {
    if (watched(fd)) { if (fault()) return -1; unsynced = 0; syncs++; }
    return REAL(fsync)(fd);
}
int fdatasync(int fd) {
    if (watched(fd)) { if (fault()) return -1; unsynced = 0; syncs++; }
    return REAL(fdatasync)(fd);
}
int rename(const char *from, const char *to) {
    if (marker[0] && strstr(to, marker) && fault()) return -1;
    return REAL(rename)(from, to);
}
