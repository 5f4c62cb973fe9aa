/* Request COMPARE: one connection compares pairs of files, one after the other, for as long as the pilot keeps it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compare.h"

/* The comparison as a whole may take days of which the next question is one. */
#define NEXT_TIMEOUT_MS INT32_MAX
/* Only regular files are opened, found as such on a file system that does not change; never a link. */
#define OPEN_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

struct pair {
  const char *one, *other;
  uint32_t flags;
};

static bool parse_pair(const struct frame *frame, struct pair *pair) {
  struct cursor cursor = {frame->data, frame->data + frame->length};
  struct item item;
  int more;
  *pair = (struct pair){0};
  while ((more = item_next(&cursor, &item)) == 1) {
    if (item.tag == TAG_PATH) pair->one = item_string(&item);
    else if (item.tag == TAG_DESTINATION) pair->other = item_string(&item);
    else if (item.tag != TAG_FILE_FLAGS || !item_u32(&item, &pair->flags)) return false;
  }
  return more == 0 && pair->one != NULL && pair->other != NULL;
}

static int compare_files(int conn, const struct pair *pair, struct device_changes *changes) {
  int one = open(pair->one, OPEN_FLAGS);
  if (one < 0) return -errno;
  int other = open(pair->other, OPEN_FLAGS);
  bool on_devices = (pair->flags & COMPARE_ON_DEVICES) != 0;
  int result = other < 0 ? -errno : compare_content(conn, one, other, changes, on_devices);
  if (other >= 0) close(other);
  close(one);
  return result;
}

/* Answers one frame. Returns 0, or -errno after which the connection ends. */
static int answer(int conn, const struct frame *frame, struct device_changes *changes) {
  struct pair pair;
  if (frame->type == FRAME_CHANGES) return device_changes_add(changes, frame->data, frame->length);
  if (frame->type != FRAME_CONTENT && frame->type != FRAME_ATTRIBUTES) return -EPROTO;
  if (!parse_pair(frame, &pair)) return -EPROTO;
  bool is_content = frame->type == FRAME_CONTENT;
  int result = is_content ? compare_files(conn, &pair, changes) : compare_attributes(conn, pair.one, pair.other);
  if (result < 0) return result;
  uint8_t same = (uint8_t)result;
  return frame_write(conn, FRAME_OK, &same, is_content ? 1 : 0);
}

void serve_compare(int conn) {
  struct device_changes changes = {0};
  struct frame frame = {0};
  int result = frame_write(conn, FRAME_OK, NULL, 0);
  while (result == 0) {
    int got = frame_read(conn, &frame, SESSION_FRAME_MAX, NEXT_TIMEOUT_MS);
    if (got == 0) break;
    result = got < 0 ? got : answer(conn, &frame, &changes);
    free(frame.data);
    frame.data = NULL;
  }
  if (result < 0) frame_error(conn, -result, "compare files: %s", strerror(-result));
  free(changes.ranges);
}
