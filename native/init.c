/*
 * PID 1 of the microVM's root namespace: keeps the helper's server and the pilot running, reaps orphans and powers
 * the machine off. Mounts were made before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hob.h"

#define SOCKET_DIR "/run/hob"
#define SOCKET_PATH SOCKET_DIR "/helper.sock"
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
#define STABLE_MS 10000   /* alive this long: the backoff starts anew */
#define SHUTDOWN_MS 10000 /* for the pilot to stop the container and unmount */

struct service {
  const char *name;
  char **command; /* NULL: the helper's server, in this program */
  pid_t pid;      /* 0 = not running */
  int64_t started_at, restart_at;
  int backoff_ms;
};

static void start_service(struct service *service, const sigset_t *no_signals) {
  service->started_at = now_ms();
  service->pid = fork();
  if (service->pid == 0) {
    sigprocmask(SIG_SETMASK, no_signals, NULL);
    setsid();
    if (service->command == NULL) exit(run_serve(SOCKET_PATH));
    /*
     * The pilot answers reads of the sprite's own disk. Where writing back that disk needs such a read, the pilot must
     * not be made to wait for the writing. PR_SET_IO_FLUSHER(2const); exec(2) keeps it.
     */
    if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0) fprintf(stderr, "hob-init: I/O flusher: %s\n", strerror(errno));
    execvp(service->command[0], service->command);
    fprintf(stderr, "hob-init: start %s: %s\n", service->command[0], strerror(errno));
    _exit(127);
  }
  if (service->pid < 0) {
    service->pid = 0;
    service->restart_at = now_ms() + BACKOFF_MAX_MS;
    fprintf(stderr, "hob-init: start %s: %s\n", service->name, strerror(errno));
  }
}

static void service_ended(struct service *service, int status) {
  bool stable = now_ms() - service->started_at >= STABLE_MS;
  if (stable || service->backoff_ms == 0) service->backoff_ms = BACKOFF_MIN_MS;
  service->pid = 0;
  service->restart_at = now_ms() + service->backoff_ms;
  const char *how = WIFSIGNALED(status) ? "was killed by signal" : "exited with status";
  int value = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
  fprintf(stderr, "hob-init: %s %s %d, restart in %d ms\n", service->name, how, value, service->backoff_ms);
  service->backoff_ms = service->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : service->backoff_ms * 2;
}

static void reap(struct service *services, size_t count) {
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    for (size_t i = 0; i < count; i++) {
      if (services[i].pid == pid) service_ended(&services[i], status);
    }
  }
}

/* Waits for one of the signals until the time given. Returns its number, or 0. */
static int wait_signal(const sigset_t *handled, int64_t until) {
  int64_t left = until - now_ms();
  if (left < 0) left = 0;
  struct timespec timeout = {.tv_sec = left / 1000, .tv_nsec = (left % 1000) * 1000000};
  int number = sigtimedwait(handled, NULL, &timeout);
  return number > 0 ? number : 0;
}

static void __attribute__((noreturn)) power_off(struct service *pilot, const sigset_t *handled) {
  int64_t deadline = now_ms() + SHUTDOWN_MS;
  pid_t waiting = pilot->pid;
  if (waiting > 0) kill(waiting, SIGTERM);
  while (waiting > 0 && now_ms() < deadline) {
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
      if (pid == waiting) waiting = 0;
    }
    if (waiting > 0) wait_signal(handled, deadline);
  }
  if (waiting > 0) fprintf(stderr, "hob-init: the pilot did not end within %d ms\n", SHUTDOWN_MS);
  sync();
  /*
   * A reset and not RB_POWER_OFF: the microvm machine has nothing that a kernel could switch itself off with, and would
   * go on with a kernel that has halted. Its VMM takes a reset for the end (-no-reboot).
   */
  reboot(RB_AUTOBOOT);
  /* Without the right to do that there is nothing left to do; PID 1 that ends makes the kernel panic. */
  fprintf(stderr, "hob-init: power off: %s\n", strerror(errno));
  for (;;) pause();
}

static int64_t next_restart(const struct service *services, size_t count) {
  int64_t next = now_ms() + 3600000;
  for (size_t i = 0; i < count; i++) {
    if (services[i].pid == 0 && services[i].restart_at < next) next = services[i].restart_at;
  }
  return next;
}

int run_init(char **command) {
  sigset_t handled, none;
  sigemptyset(&none);
  sigemptyset(&handled);
  sigaddset(&handled, SIGCHLD);
  sigaddset(&handled, SIGTERM);
  sigaddset(&handled, SIGUSR2);
  sigprocmask(SIG_SETMASK, &handled, NULL);
  if (mkdir(SOCKET_DIR, 0700) < 0 && errno != EEXIST) fprintf(stderr, "hob-init: create %s: %s\n", SOCKET_DIR, strerror(errno));
  struct service services[] = {{.name = "the helper"}, {.name = "the pilot", .command = command}};
  size_t count = sizeof services / sizeof services[0];
  for (;;) {
    for (size_t i = 0; i < count; i++) {
      if (services[i].pid == 0 && services[i].restart_at <= now_ms()) start_service(&services[i], &none);
    }
    int number = wait_signal(&handled, next_restart(services, count));
    if (number == SIGTERM || number == SIGUSR2) power_off(&services[1], &handled);
    reap(services, count);
  }
}
