/* One-shot requests that need one system call Node has no binding for. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/random.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "hob.h"

#define ENTROPY_MAX 4096

/* The single item of a frame, of the given tag. */
static bool only_item(const struct frame *frame, uint8_t tag, struct item *item) {
  struct cursor cursor = {frame->data, frame->data + frame->length};
  return item_next(&cursor, item) == 1 && item->tag == tag && cursor.at == cursor.end;
}

static void answer(int conn, int err, const char *what, const char *object) {
  if (err == 0) frame_write(conn, FRAME_OK, NULL, 0);
  else frame_error(conn, err, "%s%s%s: %s", what, object[0] == 0 ? "" : " ", object, strerror(err));
}

/* Credits the bytes to the input pool and then makes the kernel's generator use them at once. random(4). */
static int add_entropy(const uint8_t *bytes, uint32_t length) {
  struct {
    struct rand_pool_info info;
    uint8_t bytes[ENTROPY_MAX];
  } pool;
  pool.info.entropy_count = (int)length * 8;
  pool.info.buf_size = (int)length;
  memcpy(pool.info.buf, bytes, length);
  int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
  if (fd < 0) return errno;
  int err = ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0 ? errno : 0;
  explicit_bzero(&pool, sizeof pool);
  close(fd);
  return err;
}

void serve_entropy(int conn, const struct frame *frame) {
  struct item item;
  if (!only_item(frame, TAG_BYTES, &item) || item.length == 0 || item.length > ENTROPY_MAX) {
    frame_error(conn, EINVAL, "entropy request: 1 to %d bytes expected", ENTROPY_MAX);
    return;
  }
  answer(conn, add_entropy(item.value, item.length), "add entropy", "");
}

void serve_settime(int conn, const struct frame *frame) {
  struct item item;
  uint64_t ms;
  if (!only_item(frame, TAG_UNIX_MS, &item) || !item_u64(&item, &ms) || ms == 0 || ms > INT64_MAX / 2) {
    frame_error(conn, EINVAL, "settime request: milliseconds since 1970 expected");
    return;
  }
  struct timespec time = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
  answer(conn, clock_settime(CLOCK_REALTIME, &time) < 0 ? errno : 0, "set the clock", "");
}

void serve_sync(int conn) {
  sync();
  answer(conn, 0, "sync", "");
}

static const char *freeze_path(const struct frame *frame, uint32_t *timeout_ms) {
  struct cursor cursor = {frame->data, frame->data + frame->length};
  struct item item;
  const char *path = NULL;
  int more;
  while ((more = item_next(&cursor, &item)) == 1) {
    if (item.tag == TAG_PATH) path = item_string(&item);
    else if (item.tag != TAG_TIMEOUT_MS || !item_u32(&item, timeout_ms)) return NULL;
  }
  return more < 0 ? NULL : path;
}

/*
 * A frozen file system blocks every writer, so the freeze is a lease: it ends with the RELEASE frame, with the
 * connection, or after the given time, whichever comes first. FIFREEZE, ioctl_fs(2).
 */
void serve_freeze(int conn, const struct frame *frame) {
  uint32_t timeout_ms = REQUEST_TIMEOUT_MS;
  const char *path = freeze_path(frame, &timeout_ms);
  if (path == NULL || timeout_ms > INT32_MAX) return frame_error(conn, EINVAL, "freeze request: a path expected");
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return frame_error(conn, errno, "freeze %s: %s", path, strerror(errno));
  if (ioctl(fd, FIFREEZE, 0) < 0) {
    answer(conn, errno, "freeze", path);
  } else {
    answer(conn, 0, "", "");
    struct frame release = {0};
    int got = frame_read(conn, &release, SESSION_FRAME_MAX, (int)timeout_ms);
    int err = ioctl(fd, FITHAW, 0) < 0 ? errno : 0;
    if (got == 1 && release.type == FRAME_RELEASE) answer(conn, err, "thaw", path);
    else if (got == -ETIMEDOUT) frame_error(conn, ETIMEDOUT, "freeze %s: thawed after %u ms without a release", path, timeout_ms);
    free(release.data);
  }
  close(fd);
}

void serve_thaw(int conn, const struct frame *frame) {
  uint32_t unused = 0;
  const char *path = freeze_path(frame, &unused);
  if (path == NULL) return frame_error(conn, EINVAL, "thaw request: a path expected");
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int err = fd < 0 || ioctl(fd, FITHAW, 0) < 0 ? errno : 0;
  if (fd >= 0) close(fd);
  answer(conn, err, "thaw", path);
}

/* ---- kill-cgroup ---- */

static int write_file(int dir, const char *name, const char *text) {
  int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  int err = write(fd, text, strlen(text)) < 0 ? errno : 0;
  close(fd);
  return err;
}

/* 1 if the cgroup or one below has processes, 0 if none, -errno. */
static int is_populated(int events_fd) {
  char text[512];
  ssize_t length = pread(events_fd, text, sizeof text - 1, 0);
  if (length < 0) return -errno;
  text[length] = 0;
  return strstr(text, "populated 1") != NULL;
}

/* The kernel reports each change of cgroup.events as POLLPRI. cgroups(7). */
static int wait_empty(int dir, uint32_t timeout_ms) {
  int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  int64_t deadline = now_ms() + timeout_ms;
  int populated;
  while ((populated = is_populated(fd)) == 1) {
    int64_t left = deadline - now_ms();
    if (left <= 0) break;
    struct pollfd poll_fd = {.fd = fd, .events = POLLPRI};
    poll(&poll_fd, 1, left > 1000 ? 1000 : (int)left);
  }
  close(fd);
  /* ENODEV: the cgroup was removed meanwhile, so it is empty. */
  if (populated < 0) return populated == -ENODEV ? 0 : -populated;
  return populated == 1 ? ETIMEDOUT : 0;
}

void serve_kill_cgroup(int conn, const struct frame *frame) {
  uint32_t timeout_ms = REQUEST_TIMEOUT_MS;
  const char *path = freeze_path(frame, &timeout_ms);
  if (path == NULL) return frame_error(conn, EINVAL, "kill-cgroup request: a path expected");
  int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return answer(conn, errno == ENOENT ? 0 : errno, "kill cgroup", path);
  int err = write_file(dir, "cgroup.kill", "1");
  if (err == 0) err = wait_empty(dir, timeout_ms);
  close(dir);
  answer(conn, err, "kill cgroup", path);
}
