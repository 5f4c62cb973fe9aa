/*
 * hob-disk-meter FILE PATTERN SIZE_MB OPERATIONS: how fast a file is read or written. `npm run bench` runs it in a sprite,
 * and the pilot on a file system that lies on the same virtual disk without the layers of the sprite's volume.
 *
 *   reserve            makes the file anew without writing it, fallocate(2)
 *   fill               writes the file anew, 1 MiB at a time, then fdatasync
 *   sequential-write   overwrites the file, 1 MiB at a time past the page cache, then fdatasync
 *   sequential-read    reads it, 1 MiB at a time past the page cache
 *   random-read        OPERATIONS reads of 4 KiB past the page cache
 *   random-write       OPERATIONS overwrites of 4 KiB past the page cache, then fdatasync
 *   random-fsync       OPERATIONS overwrites of 4 KiB through the page cache, fsync after each
 *   random-fdatasync   the same with fdatasync: no time of change is written
 *
 * Prints one line of JSON: bytes, operations, ms.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define PAGE ((size_t)4096)
#define SIZE_MB_MAX 2048
#define OPERATIONS_MAX 1000000

static uint64_t random_state = 88172645463325252;

/* xorshift64, Marsaglia 2003: data that does not compress, positions that are the same in each run. */
static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void fail(const char *what, const char *name) {
    fprintf(stderr, "hob-disk-meter: %s %s: %s\n", what, name, strerror(errno));
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* One read or write; a short one is an error: files here have whole MiB. */
static void transfer(int file, char *buffer, size_t length, off_t at, int writes, const char *name) {
    const ssize_t done = writes ? pwrite(file, buffer, length, at) : pread(file, buffer, length, at);
    if (done == (ssize_t)length) return;
    if (done >= 0) errno = EIO;
    fail(writes ? "write" : "read", name);
}

struct pattern {
    const char *name;
    int flags;
    int writes;
    size_t unit;
    int (*sync_each)(int file);
};

static const struct pattern PATTERNS[] = {
    {"reserve", O_WRONLY | O_CREAT | O_TRUNC, 1, MIB, NULL},
    {"fill", O_WRONLY | O_CREAT | O_TRUNC, 1, MIB, NULL},
    {"sequential-write", O_WRONLY | O_DIRECT, 1, MIB, NULL},
    {"sequential-read", O_RDONLY | O_DIRECT, 0, MIB, NULL},
    {"random-read", O_RDONLY | O_DIRECT, 0, PAGE, NULL},
    {"random-write", O_WRONLY | O_DIRECT, 1, PAGE, NULL},
    {"random-fsync", O_WRONLY, 1, PAGE, fsync},
    {"random-fdatasync", O_WRONLY, 1, PAGE, fdatasync},
};

static long number(const char *text, long max) {
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (errno == 0 && *end == '\0' && value >= 1 && value <= max) return value;
    errno = EINVAL;
    fail("use", text);
    return 0;
}

static const struct pattern *find_pattern(const char *name) {
    for (size_t i = 0; i < sizeof PATTERNS / sizeof *PATTERNS; i++)
        if (strcmp(PATTERNS[i].name, name) == 0) return &PATTERNS[i];
    errno = EINVAL;
    fail("use pattern", name);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fputs("usage: hob-disk-meter FILE PATTERN SIZE_MB OPERATIONS\n", stderr);
        return 2;
    }
    const char *name = argv[1];
    const struct pattern *pattern = find_pattern(argv[2]);
    const size_t size = (size_t)number(argv[3], SIZE_MB_MAX) * MIB;
    const int in_order = pattern->unit == MIB;
    const int reserves = strcmp(pattern->name, "reserve") == 0;
    const long operations = reserves ? 0 : in_order ? (long)(size / MIB) : number(argv[4], OPERATIONS_MAX);
    char *buffer = aligned_alloc(PAGE, MIB);
    if (buffer == NULL) fail("take memory for", name);
    for (size_t i = 0; i < MIB; i += sizeof(uint64_t)) memcpy(buffer + i, &(uint64_t){next_random()}, sizeof(uint64_t));
    const int file = open(name, pattern->flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) fail("open", name);
    const int64_t start = now_ns();
    if (reserves && fallocate(file, 0, 0, (off_t)size) < 0) fail("reserve", name);
    for (long i = 0; i < operations; i++) {
        const off_t at = in_order ? (off_t)i * (off_t)MIB : (off_t)(next_random() % (size / PAGE) * PAGE);
        if (pattern->writes) memcpy(buffer, &(uint64_t){next_random()}, sizeof(uint64_t));
        transfer(file, buffer, pattern->unit, at, pattern->writes, name);
        if (pattern->sync_each != NULL && pattern->sync_each(file) < 0) fail("sync", name);
    }
    if (pattern->writes && fdatasync(file) < 0) fail("sync", name);
    const double ms = (double)(now_ns() - start) / 1e6;
    printf("{\"bytes\":%zu,\"operations\":%ld,\"ms\":%.3f}\n", (size_t)operations * pattern->unit, operations, ms);
    return 0;
}
