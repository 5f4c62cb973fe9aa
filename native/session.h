/* The state of one exec's supervisor, shared by session.c (process, loop) and session_client.c (client). */
#ifndef SESSION_H
#define SESSION_H

#include <string.h>
#include <unistd.h>

#include "hob.h"

struct buffer {
  uint8_t *data;
  size_t size, head, tail; /* used bytes are [head, tail) */
};

struct session {
  int conn;
  struct child child;
  bool tty, input_eof, output_ended, exited, client_gone;
  uint8_t code, exit_flags;
  int64_t kill_at;       /* 0 = not scheduled */
  size_t output_left;    /* bytes to drain after the end */
  size_t errors_left;
  uint32_t unacknowledged; /* consumed input that the client does not know of yet */
  struct buffer in;        /* frames from the client */
  struct buffer input;     /* bytes for the process */
  struct buffer out;       /* frames to the client */
};

static inline size_t used(const struct buffer *buffer) { return buffer->tail - buffer->head; }

static inline size_t room(const struct buffer *buffer) { return buffer->size - used(buffer); }

/* Moves the content to the front. */
static inline void compact(struct buffer *buffer) {
  if (buffer->head == 0) return;
  memmove(buffer->data, buffer->data + buffer->head, used(buffer));
  buffer->tail -= buffer->head;
  buffer->head = 0;
}

static inline void append(struct buffer *buffer, const void *data, size_t length) {
  if (buffer->size - buffer->tail < length) compact(buffer);
  memcpy(buffer->data + buffer->tail, data, length);
  buffer->tail += length;
}

static inline void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

/* ---- session_client.c ---- */

/* Queues a frame for the client; false if there is no room for it now. */
bool session_put_frame(struct session *s, uint8_t type, const void *data, uint32_t length);
/* Tells the client how much of its input was consumed, when that is worth a frame. */
void session_acknowledge(struct session *s);
/* The process reads no more: what is queued and what will come is consumed by dropping it. */
void session_drop_input(struct session *s);
/* One read from the client, and all frames that it completes. */
void session_read_client(struct session *s);
/* Writes what the connection takes. */
void session_write_client(struct session *s);
/* To every process that a hang-up reaches: the terminal's foreground group and the process's own. */
void session_end_process(struct session *s, int number);

#endif
