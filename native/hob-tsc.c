/*
 * hob-tsc: prints the frequency of this machine's time stamp counter, in kHz.
 *
 * Under TCG a guest's counter is the host's. Its kernel would calibrate it against an emulated timer, which now and
 * then never ends; given as tsc_early_khz it need not (kernel-parameters.txt).
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define MEASURE_NS 400000000

#if defined(__x86_64__)
static uint64_t ticks(void) {
    uint32_t low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}
#else
static uint64_t ticks(void) { return 0; }
#endif

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Reads both clocks as close together as the scheduler allows: of several tries the one that took the shortest. */
static void read_both(int64_t *time_ns, uint64_t *counter) {
    int64_t shortest = INT64_MAX;
    for (int i = 0; i < 32; i++) {
        const int64_t before = now_ns();
        const uint64_t middle = ticks();
        const int64_t took = now_ns() - before;
        if (took >= shortest) continue;
        shortest = took;
        *time_ns = before + took / 2;
        *counter = middle;
    }
}

int main(void) {
    int64_t start_ns = 0, end_ns = 0;
    uint64_t start = 0, end = 0;
    read_both(&start_ns, &start);
    const struct timespec pause = {.tv_nsec = MEASURE_NS};
    nanosleep(&pause, NULL);
    read_both(&end_ns, &end);
    printf("%" PRIu64 "\n", (uint64_t)((double)(end - start) * 1e6 / (double)(end_ns - start_ns)));
    return 0;
}
