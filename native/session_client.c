/* The client's side of one exec: its frames, its signals, and what it is told. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>

#include "session.h"

bool session_put_frame(struct session *s, uint8_t type, const void *data, uint32_t length) {
  if (room(&s->out) < length + FRAME_HEADER) return false;
  uint8_t header[FRAME_HEADER];
  put_u32(header, length);
  header[4] = type;
  append(&s->out, header, sizeof header);
  append(&s->out, data, length);
  return true;
}

/* ---- signals ---- */

/*
 * The foreground group of the terminal, by tcgetpgrp on the master. The id could have been reused by a foreign
 * process after the group died, so it counts only while its leader is in the session of our process.
 */
static pid_t foreground_group(const struct session *s) {
  pid_t group = tcgetpgrp(s->child.output);
  return group > 1 && getsid(group) == s->child.pid ? group : s->child.pid;
}

static void send_signal(struct session *s, int number) {
  if (s->exited) return;
  /* TIOCSIG names the group inside the kernel; it takes only the three signals that a terminal itself sends. */
  if (s->tty && (number == SIGINT || number == SIGQUIT || number == SIGTSTP) && ioctl(s->child.output, TIOCSIG, number) == 0) return;
  kill(-(s->tty ? foreground_group(s) : s->child.pid), number);
}

void session_end_process(struct session *s, int number) {
  if (s->exited) return;
  if (s->tty) kill(-foreground_group(s), number);
  kill(-s->child.pid, number);
  kill(s->child.pid, number);
}

static void client_is_gone(struct session *s) {
  if (s->client_gone) return;
  s->client_gone = true;
  s->out.head = s->out.tail = 0;
  s->kill_at = now_ms() + KILL_GRACE_MS;
  session_end_process(s, SIGHUP);
}

static void protocol_error(struct session *s, const char *what) {
  /* Only at the boundary of two frames; else the end of the connection has to say it. */
  if (used(&s->out) == 0) frame_error(s->conn, EPROTO, "%s", what);
  shutdown(s->conn, SHUT_WR);
  client_is_gone(s);
}

/* ---- from the client ---- */

/* The client learns in large steps that its input was consumed; half of the window is always enough to go on. */
void session_acknowledge(struct session *s) {
  if (s->unacknowledged < STDIN_WINDOW / 2 || s->client_gone) return;
  uint8_t payload[4];
  put_u32(payload, s->unacknowledged);
  if (session_put_frame(s, FRAME_WINDOW, payload, sizeof payload)) s->unacknowledged = 0;
}

void session_drop_input(struct session *s) {
  s->unacknowledged += (uint32_t)used(&s->input);
  s->input.head = s->input.tail = 0;
  if (!s->tty) close_fd(&s->child.input);
  s->input_eof = true;
}

static void take_input(struct session *s, const uint8_t *data, uint32_t length) {
  if (used(&s->input) + s->unacknowledged + length > STDIN_WINDOW) return protocol_error(s, "standard input exceeds the window");
  if (s->exited || s->input_eof) {
    s->unacknowledged += length;
    return;
  }
  append(&s->input, data, length);
}

static void resize(struct session *s, const uint8_t *data) {
  struct winsize size = {.ws_col = get_u16(data), .ws_row = get_u16(data + 2)};
  if (s->tty && !s->exited) ioctl(s->child.output, TIOCSWINSZ, &size);
}

static void take_frame(struct session *s, uint8_t type, const uint8_t *data, uint32_t length) {
  if (type == FRAME_STDIN) return take_input(s, data, length);
  if (type == FRAME_STDIN_EOF && length == 0) {
    s->input_eof = s->input_eof || !s->tty;
    return;
  }
  if (type == FRAME_RESIZE && length == 4) return resize(s, data);
  if (type == FRAME_SIGNAL && length == 1 && data[0] >= 1 && data[0] <= 64) return send_signal(s, data[0]);
  if (type == FRAME_END && length == 1 && data[0] >= 1 && data[0] <= 64) return session_end_process(s, data[0]);
  protocol_error(s, "unexpected frame in a session");
}

static void take_frames(struct session *s) {
  while (!s->client_gone && used(&s->in) >= FRAME_HEADER) {
    const uint8_t *frame = s->in.data + s->in.head;
    uint32_t length = get_u32(frame);
    if (length > SESSION_FRAME_MAX) return protocol_error(s, "a frame is longer than 64 KiB");
    if (used(&s->in) < FRAME_HEADER + length) return;
    s->in.head += FRAME_HEADER + length;
    take_frame(s, frame[4], frame + FRAME_HEADER, length);
  }
}

void session_read_client(struct session *s) {
  compact(&s->in);
  ssize_t got = recv(s->conn, s->in.data + s->in.tail, s->in.size - s->in.tail, MSG_DONTWAIT);
  if (got > 0) {
    s->in.tail += (size_t)got;
    take_frames(s);
  } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
    client_is_gone(s);
  }
}

void session_write_client(struct session *s) {
  ssize_t sent = send(s->conn, s->out.data + s->out.head, used(&s->out), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0) s->out.head += (size_t)sent;
  else if (errno != EAGAIN && errno != EINTR) client_is_gone(s);
  if (used(&s->out) == 0) s->out.head = s->out.tail = 0;
}
