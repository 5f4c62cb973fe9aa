/*
 * SOCKETS: a look at, and a way to, what listens inside a container. The process enters the container's network
 * namespace and no other: it stays invisible inside, and a container that is hostile can do nothing but refuse.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sockets.h"

#define ENDPOINTS_MAX 16
#define INTERVAL_MS_MIN 20
#define INTERVAL_MS_MAX 60000

struct endpoint {
  uint16_t port;
  uint32_t size; /* of address, 4 or 16 */
  const uint8_t *address;
};

struct sockets_request {
  uint32_t target_pid;
  uint32_t interval_ms; /* 0 = connect */
  uint32_t timeout_ms;
  struct endpoint endpoints[ENDPOINTS_MAX];
  uint32_t endpoint_count;
};

static bool add_endpoint(struct sockets_request *request, const struct item *item) {
  if ((item->length != 6 && item->length != 18) || request->endpoint_count == ENDPOINTS_MAX) return false;
  struct endpoint *endpoint = &request->endpoints[request->endpoint_count++];
  *endpoint = (struct endpoint){.port = get_u16(item->value), .size = item->length - 2, .address = item->value + 2};
  return endpoint->port != 0;
}

static bool apply_item(struct sockets_request *request, const struct item *item) {
  switch (item->tag) {
    case TAG_TARGET_PID: return item_u32(item, &request->target_pid);
    case TAG_TIMEOUT_MS: return item_u32(item, &request->timeout_ms);
    case TAG_INTERVAL_MS: return item_u32(item, &request->interval_ms);
    case TAG_ENDPOINT: return add_endpoint(request, item);
    default: return false;
  }
}

static bool parse(const struct frame *frame, struct sockets_request *request) {
  struct cursor cursor = {frame->data, frame->data + frame->length};
  struct item item;
  int more;
  while ((more = item_next(&cursor, &item)) == 1) {
    if (!apply_item(request, &item)) return false;
  }
  if (more < 0 || request->target_pid == 0 || request->target_pid > INT32_MAX) return false;
  if (request->timeout_ms > INT32_MAX) return false;
  if (request->interval_ms == 0) return request->endpoint_count > 0;
  return request->endpoint_count == 0 && request->interval_ms >= INTERVAL_MS_MIN && request->interval_ms <= INTERVAL_MS_MAX;
}

static socklen_t socket_address(const struct endpoint *endpoint, struct sockaddr_storage *storage) {
  memset(storage, 0, sizeof *storage);
  if (endpoint->size == 4) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)storage;
    v4->sin_family = AF_INET;
    v4->sin_port = htons(endpoint->port);
    memcpy(&v4->sin_addr, endpoint->address, 4);
    return sizeof *v4;
  }
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)storage;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(endpoint->port);
  memcpy(&v6->sin6_addr, endpoint->address, 16);
  return sizeof *v6;
}

/* Waits for the end of a connect(2) under way. Returns 0 or -errno; ECANCELED when the client or the container has gone. */
static int await_connection(int fd, int conn, int target_pidfd, int64_t deadline) {
  for (;;) {
    int64_t left = deadline - now_ms();
    if (left <= 0) return -ETIMEDOUT;
    struct pollfd fds[3] = {
        {.fd = fd, .events = POLLOUT}, {.fd = conn, .events = 0}, {.fd = target_pidfd, .events = POLLIN}};
    if (poll(fds, 3, (int)left) < 0 && errno != EINTR) return -errno;
    if (fds[1].revents != 0 || fds[2].revents != 0) return -ECANCELED;
    if (fds[0].revents == 0) continue;
    int err = 0;
    socklen_t size = sizeof err;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) < 0 ? -errno : -err;
  }
}

static int connect_one(const struct endpoint *endpoint, int conn, int target_pidfd, int64_t deadline) {
  struct sockaddr_storage storage;
  socklen_t size = socket_address(endpoint, &storage);
  int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int one = 1;
  /* Bytes were gathered into segments by their sender already. A peer that has vanished is found out by the kernel. */
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  int err = connect(fd, (struct sockaddr *)&storage, size) == 0 ? 0 : -errno;
  if (err == -EINPROGRESS) err = await_connection(fd, conn, target_pidfd, deadline);
  if (err == 0) return fd;
  close(fd);
  return err;
}

/* One endpoint after the other, each with an equal share of the time that is left; the first error is the one to tell. */
static int connect_first(const struct sockets_request *request, int conn, int target_pidfd, uint8_t *index) {
  int64_t end = now_ms() + request->timeout_ms;
  int first_err = 0;
  for (uint32_t i = 0; i < request->endpoint_count; i++) {
    int64_t now = now_ms(), share = (end - now) / (int64_t)(request->endpoint_count - i);
    int fd = connect_one(&request->endpoints[i], conn, target_pidfd, now + (share > 0 ? share : 0));
    *index = (uint8_t)i;
    if (fd >= 0 || fd == -ECANCELED) return fd;
    if (first_err == 0) first_err = fd;
  }
  return first_err;
}

static void serve_connection(int conn, const struct sockets_request *request, int target_pidfd) {
  uint8_t index;
  int peer = connect_first(request, conn, target_pidfd, &index);
  if (peer < 0) return frame_error(conn, -peer, "connect inside the container: %s", strerror(-peer));
  if (frame_write(conn, FRAME_OK, &index, 1) == 0) relay(conn, peer, target_pidfd);
  close(peer);
  /* A side that broke has told the client nothing yet: its next write must fail. */
  shutdown(conn, SHUT_RDWR);
}

void serve_sockets(int conn, const struct frame *frame) {
  struct sockets_request request = {.timeout_ms = REQUEST_TIMEOUT_MS};
  if (!parse(frame, &request)) return frame_error(conn, EINVAL, "sockets request: malformed");
  pid_t target = (pid_t)request.target_pid;
  int pidfd = (int)syscall(SYS_pidfd_open, target, 0);
  if (pidfd < 0) return frame_error(conn, errno, "pidfd_open of the container's init: %s", strerror(errno));
  if (setns(pidfd, CLONE_NEWNET) < 0) {
    frame_error(conn, errno, "setns to the container's network: %s", strerror(errno));
  } else if (request.interval_ms != 0) {
    watch_listeners(conn, target, pidfd, request.interval_ms);
  } else {
    serve_connection(conn, &request, pidfd);
  }
  close(pidfd);
}
