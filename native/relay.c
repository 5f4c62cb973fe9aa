/*
 * Two stream sockets joined. Each direction has a buffer; a side is read only while there is room for what it sends,
 * so a slow reader slows its writer, and the end of a direction is told to the other side after its last byte.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sockets.h"

#define BUFFER_BYTES (128 * 1024)
/* Time in which what a client sent before it closed must have been taken. */
#define FLUSH_MS 10000
/* Time that the other side then has to read it and to end. */
#define DRAIN_MS 2000

struct direction {
  int from, to;
  size_t head, tail; /* used bytes are [head, tail) */
  bool ended;        /* nothing more comes from `from` */
  bool told;         /* `to` knows */
  uint8_t bytes[BUFFER_BYTES];
};

static bool wants_input(const struct direction *d) { return !d->ended && d->tail < BUFFER_BYTES; }

static bool has_output(const struct direction *d) { return d->head < d->tail; }

static bool is_temporary(int err) { return err == EAGAIN || err == EINTR; }

/* Writes what `to` takes. False when it is broken. */
static bool push(struct direction *d) {
  while (has_output(d)) {
    ssize_t sent = send(d->to, d->bytes + d->head, d->tail - d->head, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) return is_temporary(errno);
    d->head += (size_t)sent;
  }
  d->head = d->tail = 0;
  if (d->ended && !d->told) {
    d->told = true;
    shutdown(d->to, SHUT_WR);
  }
  return true;
}

/* One read, passed on at once. False when either side is broken. */
static bool pull(struct direction *d) {
  if (d->head > 0) {
    memmove(d->bytes, d->bytes + d->head, d->tail - d->head);
    d->tail -= d->head;
    d->head = 0;
  }
  ssize_t got = recv(d->from, d->bytes + d->tail, BUFFER_BYTES - d->tail, MSG_DONTWAIT);
  if (got < 0) return is_temporary(errno);
  if (got == 0) d->ended = true;
  else d->tail += (size_t)got;
  return push(d);
}

static short events_of(const struct direction *in, const struct direction *out) {
  return (short)((wants_input(in) ? POLLIN : 0) | (has_output(out) ? POLLOUT : 0));
}

/*
 * The client has closed, which POLLHUP of a unix socket tells from the end of its sending, POLLRDHUP (unix_poll in
 * net/unix/af_unix.c): nobody reads any more, and what it sent before is still delivered.
 */
static void flush_rest(struct direction *up, int target_pidfd) {
  int64_t deadline = now_ms() + FLUSH_MS;
  while (!up->told) {
    int64_t left = deadline - now_ms();
    if (left <= 0) return;
    if (wants_input(up)) {
      if (!pull(up)) return;
      continue;
    }
    struct pollfd fds[2] = {{.fd = up->to, .events = POLLOUT}, {.fd = target_pidfd, .events = POLLIN}};
    if ((poll(fds, 2, (int)left) < 0 && errno != EINTR) || fds[1].revents != 0) return;
    if (fds[0].revents != 0 && !push(up)) return;
  }
}

/*
 * Reads to the end what nobody wants any more. Closing a TCP socket with unread bytes sends a reset, tcp(7), and a reset
 * takes from the peer's buffer what it has not read yet: the client's last words.
 */
static void drain(struct direction *down, int target_pidfd) {
  int64_t deadline = now_ms() + DRAIN_MS;
  for (int64_t left = DRAIN_MS; left > 0; left = deadline - now_ms()) {
    struct pollfd fds[2] = {{.fd = down->from, .events = POLLIN}, {.fd = target_pidfd, .events = POLLIN}};
    if ((poll(fds, 2, (int)left) < 0 && errno != EINTR) || fds[1].revents != 0) return;
    ssize_t got = fds[0].revents == 0 ? -1 : recv(down->from, down->bytes, BUFFER_BYTES, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && fds[0].revents != 0 && !is_temporary(errno))) return;
  }
}

void relay(int conn, int peer, int target_pidfd) {
  static struct direction up, down;
  up = (struct direction){.from = conn, .to = peer};
  down = (struct direction){.from = peer, .to = conn};
  while (!up.told || !down.told) {
    /* A side that is of no interest is left out: poll would report its POLLHUP without end. The client's is of interest. */
    short peer_events = events_of(&down, &up);
    struct pollfd fds[3] = {{.fd = conn, .events = events_of(&up, &down)},
                            {.fd = peer_events == 0 ? -1 : peer, .events = peer_events},
                            {.fd = target_pidfd, .events = POLLIN}};
    if (poll(fds, 3, -1) < 0 && errno != EINTR) return;
    if (fds[2].revents != 0) return;
    if ((fds[0].revents & (POLLHUP | POLLERR)) && !down.told) {
      flush_rest(&up, target_pidfd);
      return drain(&down, target_pidfd);
    }
    if ((fds[0].revents & POLLIN) && !pull(&up)) return;
    if ((fds[1].revents & (POLLIN | POLLHUP | POLLERR)) && wants_input(&down) && !pull(&down)) return;
    if ((fds[0].revents & POLLOUT) && !push(&down)) return;
    if ((fds[1].revents & (POLLOUT | POLLERR)) && has_output(&up) && !push(&up)) return;
  }
}
