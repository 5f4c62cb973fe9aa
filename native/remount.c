/* Taking mounts away and moving them, umount2(2) and move_mount(2), without a program to start. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hob.h"

/* linux/mount.h and sys/mount.h cannot be included together. */
int umount2(const char *target, int flags);
#define DETACH 2           /* MNT_DETACH */
#define NO_FOLLOW 8        /* UMOUNT_NOFOLLOW */

struct request {
  const char *source;
  const char *path;
  uint32_t lazy;
};

static bool parse(const struct frame *frame, struct request *request) {
  struct cursor cursor = {frame->data, frame->data + frame->length};
  struct item item;
  int more;
  while ((more = item_next(&cursor, &item)) == 1) {
    bool good = false;
    if (item.tag == TAG_PATH) good = (request->path = item_string(&item)) != NULL;
    else if (item.tag == TAG_SOURCE) good = (request->source = item_string(&item)) != NULL;
    else if (item.tag == TAG_LAZY) good = item_u32(&item, &request->lazy);
    if (!good) return false;
  }
  return more == 0 && request->path != NULL;
}

void serve_unmount(int conn, const struct frame *frame) {
  struct request request = {0};
  if (!parse(frame, &request)) return frame_error(conn, EINVAL, "unmount request: a path expected");
  if (umount2(request.path, NO_FOLLOW | (request.lazy != 0 ? DETACH : 0)) < 0) {
    return frame_error(conn, errno, "unmount %s: %s", request.path, strerror(errno));
  }
  frame_write(conn, FRAME_OK, NULL, 0);
}

void serve_move_mount(int conn, const struct frame *frame) {
  struct request request = {0};
  if (!parse(frame, &request) || request.source == NULL) return frame_error(conn, EINVAL, "move-mount request: two paths expected");
  if (syscall(SYS_move_mount, AT_FDCWD, request.source, AT_FDCWD, request.path, 0) < 0) {
    return frame_error(conn, errno, "move the mount at %s to %s: %s", request.source, request.path, strerror(errno));
  }
  frame_write(conn, FRAME_OK, NULL, 0);
}
