/*
 * The supervisor of one exec: moves bytes between the client's socket and the process, in one poll loop.
 *
 * Rules that hold at any time:
 * - Output is read only when there is room for a whole frame, so a slow client slows the process and loses nothing.
 * - The client's frames are always read: standard input is bounded by the window that the client has, not by not
 *   reading; signals therefore get through to a program that never reads.
 * - The process is reaped as soon as it ends, before its output is sent: until then the container's init could not
 *   finish dying (pid_namespaces(7)).
 * - EXIT is the last frame. What was written before the end is sent before it; what background children write later
 *   is not waited for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "session.h"

#define OUT_SIZE (2 * (SESSION_FRAME_MAX + FRAME_HEADER))
#define IN_SIZE (SESSION_FRAME_MAX + FRAME_HEADER)
#define TTY_DRAIN_MAX (256u * 1024u) /* more than the kernel buffers for a terminal (tty_buffer: 64 KiB, n_tty: 4 KiB) */
#define GONE_RECHECK_US 20000

/* ---- to and from the process ---- */

static void write_process(struct session *s) {
  ssize_t written = write(s->child.input, s->input.data + s->input.head, used(&s->input));
  if (written >= 0) {
    s->input.head += (size_t)written;
    s->unacknowledged += (uint32_t)written;
  } else if (errno != EAGAIN && errno != EINTR) {
    session_drop_input(s);
  }
}

/*
 * Reads at most one frame of output: all that is there at this moment, which a terminal gives in many small reads.
 * Returns what read(2) does; where the client is gone, bytes are dropped.
 */
static ssize_t read_process(struct session *s, int fd, uint8_t type, size_t bytes_max) {
  static uint8_t chunk[SESSION_FRAME_MAX];
  size_t length = 0, length_max = bytes_max < sizeof chunk ? bytes_max : sizeof chunk;
  ssize_t got;
  do {
    got = read(fd, chunk + length, length_max - length);
    if (got > 0) length += (size_t)got;
  } while (got > 0 && length < length_max);
  if (length == 0) return got;
  if (!s->client_gone) session_put_frame(s, type, chunk, (uint32_t)length);
  return (ssize_t)length;
}

static bool room_for_output(const struct session *s) { return s->client_gone || room(&s->out) >= SESSION_FRAME_MAX + FRAME_HEADER; }

/* One read of one stream; a stream that has ended is closed. */
static void pump(struct session *s, int *fd, uint8_t type, size_t *left) {
  size_t bytes_max = s->exited ? *left : SESSION_FRAME_MAX;
  ssize_t got = bytes_max == 0 ? 0 : read_process(s, *fd, type, bytes_max);
  if (got > 0) {
    if (s->exited) *left -= (size_t)got;
    return;
  }
  if (got < 0 && errno == EINTR) return;
  if (got < 0 && errno == EAGAIN && !s->exited) return;
  *left = 0;
  if (s->tty) s->output_ended = true;
  else close_fd(fd);
}

static size_t readable_bytes(int fd) {
  int count = 0;
  return fd >= 0 && ioctl(fd, FIONREAD, &count) == 0 && count > 0 ? (size_t)count : 0;
}

/*
 * True if the container's init is ending: every process of its pid namespace is killed then, and the exit code of
 * ours says nothing about the program. PF_EXITING (4) in the flags of proc_pid_stat(5) is set before it kills them.
 */
static bool init_is_ending(const struct session *s, uint32_t target) {
  struct pollfd poll_fd = {.fd = s->child.target_pidfd, .events = POLLIN};
  if (poll(&poll_fd, 1, 0) == 1) return true;
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%u/stat", target);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return true;
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  text[length > 0 ? length : 0] = 0;
  const char *after_name = strrchr(text, ')');
  unsigned flags = 0;
  return after_name == NULL || (sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) == 1 && (flags & 4) != 0);
}

static void reap(struct session *s, uint32_t target) {
  int status = 0;
  if (waitpid(s->child.pid, &status, WNOHANG) != s->child.pid) return;
  s->exited = true;
  s->code = WIFSIGNALED(status) ? (uint8_t)(128 + WTERMSIG(status)) : (uint8_t)WEXITSTATUS(status);
  s->kill_at = 0;
  session_drop_input(s);
  s->output_left = s->tty ? TTY_DRAIN_MAX : readable_bytes(s->child.output);
  s->errors_left = readable_bytes(s->child.errors);
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL || target == 0) return;
  bool gone = init_is_ending(s, target);
  /* cgroup.kill takes the processes in any order; init may be a moment behind. */
  if (!gone) usleep(GONE_RECHECK_US);
  if (gone || init_is_ending(s, target)) s->exit_flags |= EXIT_FLAG_CONTAINER_GONE;
}

/* ---- the loop ---- */

enum { POLL_CLIENT, POLL_PROCESS, POLL_INPUT, POLL_OUTPUT, POLL_ERRORS, POLL_COUNT };

/*
 * Whether to read output now. While the client is slower than the process, output gathers in the pipe until it is a
 * large frame, in place of many small ones; a client that keeps up gets every byte at once.
 */
static bool wants_output(const struct session *s, int fd) {
  if (s->output_ended || s->exited || !room_for_output(s)) return false;
  return s->client_gone || used(&s->out) == 0 || (!s->tty && readable_bytes(fd) >= SESSION_FRAME_MAX);
}

/* A descriptor that is not of interest is left out (-1): poll would report its POLLHUP without end. */
static void fill_poll(const struct session *s, struct pollfd *fds) {
  short client = (short)(POLLIN | (used(&s->out) > 0 ? POLLOUT : 0));
  fds[POLL_CLIENT] = (struct pollfd){.fd = s->client_gone ? -1 : s->conn, .events = client};
  fds[POLL_PROCESS] = (struct pollfd){.fd = s->exited ? -1 : s->child.pidfd, .events = POLLIN};
  fds[POLL_INPUT] = (struct pollfd){.fd = used(&s->input) > 0 ? s->child.input : -1, .events = POLLOUT};
  fds[POLL_OUTPUT] = (struct pollfd){.fd = wants_output(s, s->child.output) ? s->child.output : -1, .events = POLLIN};
  fds[POLL_ERRORS] = (struct pollfd){.fd = wants_output(s, s->child.errors) ? s->child.errors : -1, .events = POLLIN};
}

static int poll_timeout(const struct session *s) {
  if (s->kill_at == 0) return -1;
  int64_t left = s->kill_at - now_ms();
  return left < 0 ? 0 : (int)left;
}

static bool drained(const struct session *s) { return s->output_left == 0 && s->errors_left == 0; }

/* After the end: sends what is left, as far as there is room. */
static void drain(struct session *s) {
  while (s->output_left > 0 && room_for_output(s)) pump(s, &s->child.output, FRAME_STDOUT, &s->output_left);
  while (s->errors_left > 0 && room_for_output(s)) pump(s, &s->child.errors, FRAME_STDERR, &s->errors_left);
}

static void finish_input(struct session *s) {
  if (s->input_eof && used(&s->input) == 0 && !s->tty) close_fd(&s->child.input);
}

static void step(struct session *s, uint32_t target) {
  /* Before poll: with all of it sent and more to drain, no descriptor would ever become ready. */
  if (s->exited) drain(s);
  if (s->exited && drained(s)) return;
  struct pollfd fds[POLL_COUNT];
  fill_poll(s, fds);
  if (poll(fds, POLL_COUNT, poll_timeout(s)) < 0 && errno != EINTR) return;
  if (s->kill_at != 0 && now_ms() >= s->kill_at) {
    s->kill_at = 0;
    session_end_process(s, SIGKILL);
  }
  if (fds[POLL_CLIENT].revents & (POLLIN | POLLHUP | POLLERR)) session_read_client(s);
  if (fds[POLL_INPUT].revents != 0 && used(&s->input) > 0) write_process(s);
  if (fds[POLL_OUTPUT].revents != 0 && room_for_output(s)) pump(s, &s->child.output, FRAME_STDOUT, &s->output_left);
  if (fds[POLL_ERRORS].revents != 0 && room_for_output(s)) pump(s, &s->child.errors, FRAME_STDERR, &s->errors_left);
  if (fds[POLL_PROCESS].revents != 0) reap(s, target);
  finish_input(s);
  session_acknowledge(s);
  if (used(&s->out) > 0 && !s->client_gone) session_write_client(s);
}

static void run(struct session *s, uint32_t target) {
  uint8_t pid[4];
  put_u32(pid, (uint32_t)s->child.pid);
  session_put_frame(s, FRAME_STARTED, pid, sizeof pid);
  session_write_client(s);
  while (!s->exited || (!s->client_gone && !drained(s))) step(s, target);
  uint8_t end[2] = {s->code, s->exit_flags};
  bool sent = false;
  while (!s->client_gone && (!sent || used(&s->out) > 0)) {
    if (!sent) sent = session_put_frame(s, FRAME_EXIT, end, sizeof end);
    struct pollfd fd = {.fd = s->conn, .events = POLLIN | POLLOUT};
    if (poll(&fd, 1, -1) < 0 && errno != EINTR) return;
    if (fd.revents & (POLLIN | POLLHUP | POLLERR)) session_read_client(s);
    if ((fd.revents & POLLOUT) && !s->client_gone) session_write_client(s);
  }
}

static bool allocate(struct buffer *buffer, size_t size) {
  *buffer = (struct buffer){.data = malloc(size), .size = size};
  return buffer->data != NULL;
}

static void release(struct session *s) {
  if (!s->tty) {
    close_fd(&s->child.input);
    close_fd(&s->child.errors);
  }
  close_fd(&s->child.output);
  close_fd(&s->child.slave);
  close_fd(&s->child.pidfd);
  close_fd(&s->child.target_pidfd);
  free(s->in.data);
  free(s->input.data);
  free(s->out.data);
}

void serve_exec(int conn, const struct frame *frame) {
  struct exec_request request;
  const char *why;
  char text[512];
  int err = -exec_request_parse(frame, &request, &why);
  if (err != 0) {
    frame_error(conn, err, "exec request: %s", why);
    exec_request_free(&request);
    return;
  }
  struct session s = {.conn = conn, .tty = request.tty};
  const struct child_main program = {.run = enter_and_exec};
  if (!allocate(&s.in, IN_SIZE) || !allocate(&s.input, STDIN_WINDOW) || !allocate(&s.out, OUT_SIZE)) {
    frame_error(conn, ENOMEM, "exec: out of memory");
  } else if ((err = -launch_child(&request, &program, &s.child, text, sizeof text)) != 0) {
    frame_error(conn, err, "%s: %s", text, strerror(err));
  } else {
    run(&s, request.target_pid);
  }
  release(&s);
  exec_request_free(&request);
}
