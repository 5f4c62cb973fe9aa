/* Reads a file: what it is in one frame, then its bytes as they are. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "files.h"

#define INFO_LENGTH 45u
#define SEND_CHUNK (1u << 20)

struct content {
  int fd;
  struct stat info;
  uint8_t *text; /* of a file without a size, read beforehand */
  uint64_t size, start, length;
};

/* Looked at before it is opened for reading: to open a FIFO waits for a writer, to open a device has effects. */
static int open_regular(const char *path, struct stat *info) {
  int looked = open_path(AT_FDCWD, path, O_PATH);
  if (looked < 0) return looked;
  int result = fstat(looked, info) < 0 ? -errno : 0;
  close(looked);
  if (result == 0 && !S_ISREG(info->st_mode)) result = S_ISDIR(info->st_mode) ? -EISDIR : -EINVAL;
  if (result < 0) return result;
  int fd = open_path(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return fd;
  result = fstat(fd, info) < 0 ? -errno : S_ISREG(info->st_mode) ? fd : -EINVAL;
  if (result < 0) close(fd);
  return result;
}

/* Files of /proc and /sys say 0, or a page, whatever they hold: their size is known when they have been read. */
static int read_unsized(struct content *content) {
  size_t size = 64 * 1024, length = 0;
  for (;;) {
    uint8_t *larger = realloc(content->text, size);
    if (larger == NULL) return -ENOMEM;
    content->text = larger;
    ssize_t got = read(content->fd, content->text + length, size - length);
    if (got < 0 && errno != EINTR) return -errno;
    if (got == 0) break;
    if (got > 0) length += (size_t)got;
    if (length > UNSIZED_MAX) return -EFBIG;
    if (size - length < size / 2) size *= 2;
  }
  content->size = length;
  return 0;
}

/* The part that is asked for, as far as it exists. RFC 9110, section 14.1.2. */
static void choose_range(const struct files_request *request, struct content *content) {
  uint64_t size = content->size;
  if (request->has_suffix) content->start = request->suffix < size ? size - request->suffix : 0;
  else content->start = request->offset < size ? request->offset : size;
  uint64_t left = size - content->start;
  content->length = !request->has_suffix && request->length < left ? request->length : left;
}

static void send_info(struct files *files, const struct content *content) {
  uint8_t payload[INFO_LENGTH];
  bool info_only = (files->request->flags & FILE_INFO_ONLY) != 0;
  put_u64(payload, content->size);
  put_u64(payload + 8, content->start);
  put_u64(payload + 16, content->length);
  put_u64(payload + 24, (uint64_t)content->info.st_mtim.tv_sec);
  put_u32(payload + 32, (uint32_t)content->info.st_mtim.tv_nsec);
  put_u64(payload + 36, content->info.st_ino);
  payload[44] = info_only ? 0 : 1;
  send_frame(files->conn, FRAME_FILE_INFO, payload, sizeof payload);
}

/* A file that shrinks meanwhile ends the connection early; the client counts. */
static int send_content(struct files *files, const struct content *content) {
  static uint8_t buffer[128 * 1024];
  off_t at = (off_t)content->start, end = at + (off_t)content->length;
  bool in_kernel = true;
  while (at < end) {
    size_t wanted = end - at > (off_t)SEND_CHUNK ? SEND_CHUNK : (size_t)(end - at);
    off_t position = at;
    ssize_t done = in_kernel ? sendfile(files->conn, content->fd, &position, wanted) : -1;
    if (done < 0 && in_kernel) {
      if (errno == EPIPE || errno == ECONNRESET) return 0;
      in_kernel = false;
      continue;
    }
    if (!in_kernel) done = pread(content->fd, buffer, wanted < sizeof buffer ? wanted : sizeof buffer, at);
    if (done <= 0) return 0;
    if (!in_kernel) send_bytes(files->conn, buffer, (size_t)done);
    at += done;
  }
  return 0;
}

int files_read(struct files *files) {
  struct content content = {0};
  content.fd = open_regular(files->request->path, &content.info);
  if (content.fd < 0) return content.fd;
  content.size = (uint64_t)content.info.st_size;
  int result = content.info.st_blocks == 0 && content.size <= 4096 ? read_unsized(&content) : 0;
  if (result < 0) return result;
  choose_range(files->request, &content);
  send_info(files, &content);
  if ((files->request->flags & FILE_INFO_ONLY) != 0) return 0;
  if (content.text != NULL) send_bytes(files->conn, content.text + content.start, content.length);
  else result = send_content(files, &content);
  return result;
}
