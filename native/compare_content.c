/* Whether two files have the same bytes, without reading what must be the same. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compare.h"

#define CHUNK (256u * 1024u)
/* Bytes between two signs of life: a fraction of a second under emulation. */
#define PROGRESS_STEP (8u * 1024u * 1024u)

/* Bytes read, fewer only at the end of the file, or -errno. */
static ssize_t read_chunk(int fd, uint8_t *buffer, size_t wanted, off_t at) {
  size_t done = 0;
  while (done < wanted) {
    ssize_t got = pread(fd, buffer + done, wanted - done, at + (off_t)done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) break;
    done += (size_t)got;
  }
  return (ssize_t)done;
}

/* Where a file has data next; size = nowhere. A file system that cannot tell has data everywhere. lseek(2) */
static off_t next_data(int fd, off_t at, off_t size) {
  off_t data = lseek(fd, at, SEEK_DATA);
  if (data < 0) return errno == ENXIO ? size : at;
  return data < size ? data : size;
}

/*
 * What the pilot says meanwhile: where the devices differ, as soon as it knows. Whoever asked may have gone, too: then nothing
 * of this is of use any more.
 */
static int take_changes(int conn, struct device_changes *changes) {
  struct pollfd poll_fd = {.fd = conn, .events = POLLIN | POLLRDHUP};
  while (poll(&poll_fd, 1, 0) > 0) {
    if ((poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) _exit(0);
    struct frame frame;
    int got = frame_read(conn, &frame, SESSION_FRAME_MAX, REQUEST_TIMEOUT_MS);
    if (got == 0) _exit(0);
    if (got < 0) return got;
    int result = frame.type == FRAME_CHANGES ? device_changes_add(changes, frame.data, frame.length) : -EPROTO;
    free(frame.data);
    if (result < 0) return result;
  }
  return 0;
}

static int compare_chunk(int one, int other, off_t at, off_t size) {
  static uint8_t bytes[CHUNK], other_bytes[CHUNK];
  size_t wanted = size - at < (off_t)CHUNK ? (size_t)(size - at) : CHUNK;
  ssize_t got = read_chunk(one, bytes, wanted, at);
  ssize_t other_got = got < 0 ? got : read_chunk(other, other_bytes, wanted, at);
  if (other_got < 0) return (int)other_got;
  return got == other_got && memcmp(bytes, other_bytes, (size_t)got) == 0;
}

int compare_content(int conn, int one, int other, struct device_changes *changes, bool on_devices) {
  static struct extents extents, other_extents;
  struct stat info, other_info;
  uint8_t payload[8];
  extents = (struct extents){.fd = one};
  other_extents = (struct extents){.fd = other};
  if (fstat(one, &info) < 0 || fstat(other, &other_info) < 0) return -errno;
  if (!S_ISREG(info.st_mode) || !S_ISREG(other_info.st_mode)) return -EINVAL;
  if (info.st_size != other_info.st_size) return 0;
  uint64_t read_bytes = 0;
  for (off_t at = 0;;) {
    off_t data = next_data(one, at, info.st_size), other_data = next_data(other, at, info.st_size);
    at = data < other_data ? data : other_data;
    if (at >= info.st_size) return 1;
    int taken = take_changes(conn, changes);
    if (taken < 0) return taken;
    uint64_t same = on_devices ? same_blocks(&extents, &other_extents, changes, (uint64_t)at) : 0;
    if (same > 0) {
      at = same < (uint64_t)(info.st_size - at) ? at + (off_t)same : info.st_size;
      continue;
    }
    int equal = compare_chunk(one, other, at, info.st_size);
    if (equal != 1) return equal;
    at += CHUNK;
    read_bytes += CHUNK;
    if (read_bytes % PROGRESS_STEP == 0) {
      put_u64(payload, read_bytes);
      if (frame_write(conn, FRAME_PROGRESS, payload, sizeof payload) < 0) _exit(0);
    }
  }
}
