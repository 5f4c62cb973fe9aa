/* Frames and tag-length-value items, both ways. */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hob.h"

uint16_t get_u16(const uint8_t *p) {
  uint16_t value;
  memcpy(&value, p, sizeof value);
  return le16toh(value);
}

uint32_t get_u32(const uint8_t *p) {
  uint32_t value;
  memcpy(&value, p, sizeof value);
  return le32toh(value);
}

uint64_t get_u64(const uint8_t *p) {
  uint64_t value;
  memcpy(&value, p, sizeof value);
  return le64toh(value);
}

void put_u16(uint8_t *p, uint16_t value) {
  value = htole16(value);
  memcpy(p, &value, sizeof value);
}

void put_u64(uint8_t *p, uint64_t value) {
  value = htole64(value);
  memcpy(p, &value, sizeof value);
}

void put_u32(uint8_t *p, uint32_t value) {
  value = htole32(value);
  memcpy(p, &value, sizeof value);
}

int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until fd is ready or the deadline has passed. Returns 0 or -errno. */
static int wait_ready(int fd, short events, int64_t deadline) {
  for (;;) {
    int64_t left = deadline - now_ms();
    if (left <= 0) return -ETIMEDOUT;
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int ready = poll(&poll_fd, 1, left > 60000 ? 60000 : (int)left);
    if (ready > 0) return 0;
    if (ready < 0 && errno != EINTR) return -errno;
  }
}

/* Reads exactly length bytes. Returns 1, 0 at the end before the first byte, or -errno. */
static int read_exactly(int fd, uint8_t *data, size_t length, int64_t deadline) {
  size_t done = 0;
  while (done < length) {
    int waited = wait_ready(fd, POLLIN, deadline);
    if (waited < 0) return waited;
    ssize_t got = recv(fd, data + done, length - done, MSG_DONTWAIT);
    if (got > 0) {
      done += (size_t)got;
    } else if (got == 0) {
      return done == 0 ? 0 : -EPROTO;
    } else if (errno != EINTR && errno != EAGAIN) {
      return -errno;
    }
  }
  return 1;
}

int frame_read(int fd, struct frame *frame, uint32_t length_max, int timeout_ms) {
  int64_t deadline = now_ms() + timeout_ms;
  uint8_t header[FRAME_HEADER];
  int got = read_exactly(fd, header, sizeof header, deadline);
  if (got <= 0) return got;
  frame->length = get_u32(header);
  frame->type = header[4];
  if (frame->length > length_max) return -EMSGSIZE;
  frame->data = malloc((size_t)frame->length + 1);
  if (frame->data == NULL) return -ENOMEM;
  got = frame->length == 0 ? 1 : read_exactly(fd, frame->data, frame->length, deadline);
  if (got <= 0) {
    free(frame->data);
    frame->data = NULL;
    return got == 0 ? -EPROTO : got;
  }
  frame->data[frame->length] = 0;
  return 1;
}

static int write_exactly(int fd, const uint8_t *data, size_t length) {
  int64_t deadline = now_ms() + REQUEST_TIMEOUT_MS;
  while (length > 0) {
    ssize_t sent = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      data += sent;
      length -= (size_t)sent;
    } else if (errno == EAGAIN) {
      int waited = wait_ready(fd, POLLOUT, deadline);
      if (waited < 0) return waited;
    } else if (errno != EINTR) {
      return -errno;
    }
  }
  return 0;
}

int frame_write(int fd, uint8_t type, const void *data, uint32_t length) {
  uint8_t header[FRAME_HEADER];
  put_u32(header, length);
  header[4] = type;
  int sent = write_exactly(fd, header, sizeof header);
  if (sent == 0 && length > 0) sent = write_exactly(fd, data, length);
  return sent;
}

void frame_error(int fd, int err, const char *format, ...) {
  uint8_t payload[1024];
  put_u32(payload, (uint32_t)err);
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf((char *)payload + 4, sizeof payload - 4, format, arguments);
  va_end(arguments);
  if (length < 0) length = 0;
  if (length > (int)sizeof payload - 5) length = (int)sizeof payload - 5;
  frame_write(fd, FRAME_ERROR, payload, 4 + (uint32_t)length);
}

int item_next(struct cursor *cursor, struct item *item) {
  size_t left = (size_t)(cursor->end - cursor->at);
  if (left == 0) return 0;
  if (left < FRAME_HEADER) return -EPROTO;
  item->tag = cursor->at[0];
  item->length = get_u32(cursor->at + 1);
  if (item->length > left - FRAME_HEADER) return -EPROTO;
  item->value = cursor->at + FRAME_HEADER;
  cursor->at = item->value + item->length;
  return 1;
}

const char *item_string(const struct item *item) {
  const uint8_t *end = memchr(item->value, 0, item->length);
  if (end == NULL || end != item->value + item->length - 1) return NULL;
  return (const char *)item->value;
}

bool item_u32(const struct item *item, uint32_t *value) {
  if (item->length != 4) return false;
  *value = get_u32(item->value);
  return true;
}

bool item_u64(const struct item *item, uint64_t *value) {
  if (item->length != 8) return false;
  *value = get_u64(item->value);
  return true;
}
