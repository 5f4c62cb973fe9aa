/* Writes a file from the frames that the client sends. Nothing of it is seen under its name before the last one. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "files.h"

/* What was received and not yet used. Large: one call of recv for several frames. */
struct input {
  uint8_t bytes[4 * (SESSION_FRAME_MAX + FRAME_HEADER)];
  size_t head, tail;
};

/* Has at least `length` bytes in hand, or the client has gone: false. */
static bool receive(int conn, struct input *input, size_t length) {
  if (input->tail - input->head >= length) return true;
  memmove(input->bytes, input->bytes + input->head, input->tail - input->head);
  input->tail -= input->head;
  input->head = 0;
  while (input->tail < length) {
    ssize_t got = recv(conn, input->bytes + input->tail, sizeof input->bytes - input->tail, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    input->tail += (size_t)got;
  }
  return true;
}

static int write_all(int fd, const uint8_t *data, size_t length) {
  while (length > 0) {
    ssize_t written = write(fd, data, length);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -errno;
    data += written;
    length -= (size_t)written;
  }
  return 0;
}

/* 1 at the end of the content, -ECANCELED if the client goes before. */
static int take_frame(struct files *files, struct input *input, int fd) {
  if (!receive(files->conn, input, FRAME_HEADER)) return -ECANCELED;
  uint32_t length = get_u32(input->bytes + input->head);
  uint8_t type = input->bytes[input->head + 4];
  if (type == FRAME_STDIN_EOF && length == 0) return 1;
  if (type != FRAME_STDIN || length > SESSION_FRAME_MAX) return -EPROTO;
  if (!receive(files->conn, input, FRAME_HEADER + length)) return -ECANCELED;
  int written = write_all(fd, input->bytes + input->head + FRAME_HEADER, length);
  input->head += FRAME_HEADER + length;
  files->bytes += length;
  return written;
}

int files_write(struct files *files) {
  static struct input input;
  const struct files_request *request = files->request;
  struct replacement replacement;
  struct stat after;
  int result = 0;
  if ((request->flags & (FILE_PARENTS | FILE_PARENT)) != 0) {
    result = make_parents(request->path, (request->flags & FILE_PARENTS) != 0);
  }
  if (result == 0) result = replacement_begin(&replacement, request->path);
  if (result < 0) return result;
  send_frame(files->conn, FRAME_OK, "", 0);
  while ((result = take_frame(files, &input, replacement.fd)) == 0) continue;
  if (result < 0) {
    replacement_abort(&replacement);
    return result;
  }
  result = replacement_commit(&replacement, request->has_mode ? (int)request->mode : -1, &after);
  if (result == 0) send_done(files, after.st_mode & 07777);
  return result;
}
