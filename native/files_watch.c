/*
 * Reports what happens to files, by inotify(7) inside the container. A single file is watched by way of its directory:
 * editors, and writes by this helper, put a new file in its place.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "files_watch.h"

#define EVENT_HEADER 20u
#define GATHER_US 10000 /* events that come together are looked at together */
#define LOOK_AHEAD 64   /* events in which a repetition is looked for */

static void flush_events(struct watch *watch) {
  if (watch->events_length > 0) send_frame(watch->files->conn, FRAME_EVENTS, watch->events, (uint32_t)watch->events_length);
  watch->events_length = 0;
}

void add_event(struct watch *watch, enum event_kind kind, const char *path) {
  size_t length = strlen(path);
  const char *object = watch->only != NULL ? watch->only : path[0] == 0 ? "." : path;
  struct stat info = {0};
  struct timespec now;
  if (length > FILE_PATH_MAX) return;
  if (watch->events_length + EVENT_HEADER + length > ENTRIES_SIZE) flush_events(watch);
  int top = kind == EVENT_REMOVE || kind == EVENT_RENAME ? -1 : open_top(watch);
  if (top >= 0 && fstatat(top, object, &info, AT_SYMLINK_NOFOLLOW) < 0) info = (struct stat){0};
  if (top >= 0) close(top);
  clock_gettime(CLOCK_REALTIME, &now);
  uint8_t *at = watch->events + watch->events_length;
  at[0] = (uint8_t)kind;
  at[1] = S_ISDIR(info.st_mode) ? 1 : 0;
  put_u16(at + 2, (uint16_t)length);
  put_u64(at + 4, (uint64_t)info.st_size);
  put_u64(at + 12, (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
  memcpy(at + EVENT_HEADER, path, length);
  watch->events_length += EVENT_HEADER + length;
}

/* Marks the event as one about a directory, which may no longer be there to be looked at. */
static void add_name_event(struct watch *watch, enum event_kind kind, const char *path, bool directory) {
  size_t at = watch->events_length;
  add_event(watch, kind, path);
  if (directory && watch->events_length > 0) watch->events[at < watch->events_length ? at + 1 : 1] = 1;
}

static void directory_appeared(struct watch *watch, const char *path, bool created) {
  int dir = open_below(watch, path);
  int result = dir < 0 ? 0 : watch_directory(watch, dir, path, created, 0);
  if (result != -ENOSPC || watch->limit_told) return;
  watch->limit_told = true;
  add_event(watch, EVENT_LIMIT, path);
}

static void take_change(struct watch *watch, const struct inotify_event *event, const char *path) {
  bool directory = (event->mask & IN_ISDIR) != 0;
  if ((event->mask & IN_CREATE) != 0 && !was_scanned(watch, path)) add_name_event(watch, EVENT_CREATE, path, directory);
  if ((event->mask & IN_MOVED_TO) != 0) {
    add_name_event(watch, EVENT_CREATE, path, directory);
    if (event->cookie == watch->temporary_cookie) add_event(watch, EVENT_WRITE, path);
  }
  if ((event->mask & IN_MODIFY) != 0) add_event(watch, EVENT_WRITE, path);
  if ((event->mask & IN_ATTRIB) != 0) add_event(watch, EVENT_CHMOD, path);
  if ((event->mask & IN_DELETE) != 0) add_name_event(watch, EVENT_REMOVE, path, directory);
  if ((event->mask & IN_MOVED_FROM) != 0) add_name_event(watch, EVENT_RENAME, path, directory);
  if (!watch->recursive || !directory || watch->only != NULL) return;
  if ((event->mask & IN_MOVED_FROM) != 0) unwatch_below(watch, path);
  if ((event->mask & (IN_CREATE | IN_MOVED_TO)) != 0) directory_appeared(watch, path, (event->mask & IN_CREATE) != 0);
}

/* Events about a watched directory itself: only those of the top are not reported by its parent. */
static void take_own_event(struct watch *watch, struct watched *watched, uint32_t mask) {
  bool top = watched->path[0] == 0;
  if ((mask & IN_IGNORED) != 0) forget_watched(watch, watched);
  if (!top) return;
  if ((mask & IN_ATTRIB) != 0 && watch->only == NULL) add_event(watch, EVENT_CHMOD, "");
  if ((mask & (IN_DELETE_SELF | IN_MOVE_SELF)) == 0 || watch->gone) return;
  add_name_event(watch, (mask & IN_MOVE_SELF) != 0 ? EVENT_RENAME : EVENT_REMOVE, "", watch->only == NULL);
  add_event(watch, EVENT_GONE, "");
  watch->gone = true;
}

static void take_event(struct watch *watch, const struct inotify_event *event) {
  if ((event->mask & IN_Q_OVERFLOW) != 0) return add_event(watch, EVENT_OVERFLOW, "");
  struct watched *watched = find_watched(watch, event->wd);
  if (watched == NULL) return;
  if (event->len == 0) return take_own_event(watch, watched, event->mask);
  if (strncmp(event->name, TEMPORARY_PREFIX, sizeof TEMPORARY_PREFIX - 1) == 0) {
    if ((event->mask & IN_MOVED_FROM) != 0) watch->temporary_cookie = event->cookie;
    return;
  }
  if (watch->only != NULL && strcmp(event->name, watch->only) != 0) return;
  char *path = watch->only != NULL ? strdup("") : join_path(watched->path, event->name);
  if (path == NULL) return;
  take_change(watch, event, path);
  free(path);
}

static const struct inotify_event *event_after(const struct inotify_event *event) {
  return (const struct inotify_event *)((const char *)(event + 1) + event->len);
}

/* A program that writes much causes many equal events: the last of those that were read together is enough. */
static bool is_repeated(const struct inotify_event *event, const char *end) {
  if ((event->mask & (IN_MODIFY | IN_ATTRIB)) == 0) return false;
  const struct inotify_event *later = event_after(event);
  for (int i = 0; i < LOOK_AHEAD && (const char *)later < end; i++, later = event_after(later)) {
    if (later->wd != event->wd || later->len != event->len) continue;
    if (event->len > 0 && strcmp(later->name, event->name) != 0) continue;
    return later->mask == event->mask;
  }
  return false;
}

static void take_events(struct watch *watch) {
  static char buffer[64 * 1024] __attribute__((aligned(__alignof__(struct inotify_event))));
  usleep(GATHER_US);
  ssize_t length = read(watch->inotify, buffer, sizeof buffer);
  if (length <= 0) return;
  const char *end = buffer + length;
  for (const struct inotify_event *event = (const void *)buffer; (const char *)event < end && !watch->gone; event = event_after(event)) {
    if (!is_repeated(event, end)) take_event(watch, event);
  }
  /* What was found by looking into new directories is reported by the kernel up to here. */
  struct pollfd more = {.fd = watch->inotify, .events = POLLIN};
  if (poll(&more, 1, 0) == 0) forget_scanned(watch);
  flush_events(watch);
}

/* Finds out what is watched. Returns a descriptor of the directory to begin with, or -errno. */
static int find_top(struct watch *watch, struct place *place) {
  struct stat info;
  int dir = open_path(AT_FDCWD, watch->files->request->path, O_RDONLY | O_DIRECTORY);
  if (dir >= 0 && fstat(dir, &info) == 0) {
    watch->top_device = info.st_dev;
    watch->top_inode = info.st_ino;
  }
  if (dir != -ENOTDIR) return dir;
  int result = place_of(watch->files->request->path, true, place);
  if (result == 0) result = stat_place(place, &info);
  if (result < 0) return result;
  watch->only = place->name;
  watch->holder = place->dir;
  watch->recursive = false;
  return open_path(place->dir, ".", O_RDONLY | O_DIRECTORY);
}

int files_watch(struct files *files) {
  static struct watch watch;
  static struct place place;
  watch = (struct watch){.files = files, .holder = -1, .recursive = (files->request->flags & FILE_RECURSIVE) != 0};
  watch.inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (watch.inotify < 0) return -errno;
  int top = find_top(&watch, &place);
  int result = top < 0 ? top : watch_directory(&watch, top, "", false, 0);
  if (result < 0) return result;
  send_frame(files->conn, FRAME_OK, "", 0);
  while (!watch.gone) {
    struct pollfd fds[2] = {{.fd = watch.inotify, .events = POLLIN}, {.fd = files->conn, .events = POLLRDHUP}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return -errno;
    if (fds[1].revents != 0) break;
    if (fds[0].revents != 0) take_events(&watch);
  }
  return 0;
}
