/*
 * Faults of the operating system, for tests (LD_PRELOAD).
 *
 * NYX_SHIM_SHORT=N: read and write never pass more than N bytes at once.
 * NYX_SHIM_FAIL=fsync|rename: those system calls fail with EIO, whoever makes them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static size_t most;

static size_t cut(size_t count) { return most && count > most ? most : count; }

ssize_t read(int file, void *bytes, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    return real(file, bytes, cut(count));
}

ssize_t write(int file, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    return real(file, bytes, cut(count));
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real) real = dlsym(RTLD_NEXT, "writev");
    if (!most) return real(file, parts, count);
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len) return write(file, parts[i].iov_base, parts[i].iov_len);
    return 0;
}

ssize_t pread64(int file, void *bytes, size_t count, off_t offset) {
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    return real(file, bytes, cut(count), offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    return real(file, bytes, cut(count), offset);
}

#define FAIL(call) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO)
#define LOAD BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define PASS BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void install(struct sock_filter *filter, unsigned short length) {
    struct sock_fprog program = {.len = length, .filter = filter};
    /* Status 99 says that faults of this kind cannot be injected here. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) _exit(99);
}

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("NYX_SHIM_SHORT");
    most = text ? strtoul(text, NULL, 10) : 0;
    text = getenv("NYX_SHIM_FAIL");
    if (text && !strcmp(text, "fsync")) {
        struct sock_filter filter[] = {LOAD, FAIL(SYS_fsync), FAIL(SYS_fdatasync), PASS};
        install(filter, sizeof filter / sizeof *filter);
    }
    if (text && !strcmp(text, "rename")) {
        struct sock_filter filter[] = {
            LOAD,
#ifdef SYS_rename
            FAIL(SYS_rename),
#endif
#ifdef SYS_renameat
            FAIL(SYS_renameat),
#endif
            FAIL(SYS_renameat2), FAIL(SYS_linkat), PASS};
        install(filter, sizeof filter / sizeof *filter);
    }
}
