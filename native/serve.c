/*
 * The server: one process per connection, so that a fault in one request harms no other, and so that a request may
 * change its own namespaces.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hob.h"

static void dispatch(int conn, const struct frame *frame) {
  switch (frame->type) {
    case REQ_EXEC: return serve_exec(conn, frame);
    case REQ_ENTROPY: return serve_entropy(conn, frame);
    case REQ_SETTIME: return serve_settime(conn, frame);
    case REQ_SYNC: return serve_sync(conn);
    case REQ_FREEZE: return serve_freeze(conn, frame);
    case REQ_THAW: return serve_thaw(conn, frame);
    case REQ_IDMAP_MOUNT: return serve_idmap_mount(conn, frame);
    case REQ_NETWORK: return serve_network(conn, frame);
    case REQ_KILL_CGROUP: return serve_kill_cgroup(conn, frame);
    case REQ_DM: return serve_dm(conn, frame);
    case REQ_UNMOUNT: return serve_unmount(conn, frame);
    case REQ_MOVE_MOUNT: return serve_move_mount(conn, frame);
    case REQ_NBD: return serve_nbd(conn, frame);
    case REQ_FILES: return serve_files(conn, frame);
    case REQ_SOCKETS: return serve_sockets(conn, frame);
    case REQ_COMPARE: return serve_compare(conn);
    default: return frame_error(conn, EPROTO, "unknown request %u", frame->type);
  }
}

/*
 * Says that nothing follows and waits for the client to close. Closing first would lose the last frames: the client
 * may be writing at this moment, gets EPIPE, and gives up before it has read them.
 */
static void linger(int conn) {
  uint8_t rest[4096];
  shutdown(conn, SHUT_WR);
  ssize_t got;
  while ((got = read(conn, rest, sizeof rest)) > 0 || (got < 0 && errno == EINTR)) continue;
}

static void __attribute__((noreturn)) supervise(int conn) {
  prctl(PR_SET_NAME, "hob-supervisor");
  struct frame frame = {0};
  int got = frame_read(conn, &frame, FRAME_MAX, REQUEST_TIMEOUT_MS);
  if (got == 1) dispatch(conn, &frame);
  else if (got == -EMSGSIZE) frame_error(conn, EMSGSIZE, "the request is longer than %u bytes", FRAME_MAX);
  else if (got < 0) frame_error(conn, -got, "read request: %s", strerror(-got));
  free(frame.data);
  linger(conn);
  close(conn);
  exit(0);
}

/* The socket appears under its name when it accepts connections, not before. */
static int listen_on(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (snprintf(address.sun_path, sizeof address.sun_path, "%s.new", path) >= (int)sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  if (unlink(address.sun_path) < 0 && errno != ENOENT) return -1;
  mode_t before = umask(0177);
  int result = bind(fd, (struct sockaddr *)&address, sizeof address);
  umask(before);
  return result < 0 || listen(fd, 128) < 0 || rename(address.sun_path, path) < 0 ? -1 : fd;
}

/* Only the user that runs the helper: the socket's mode says the same, its directory may be misconfigured. */
static bool is_permitted(int conn) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  return getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == geteuid();
}

static int reap_supervisors(void) {
  int count = 0;
  while (waitpid(-1, NULL, WNOHANG) > 0) count++;
  return count;
}

/* Accepts one connection. Returns 1 if a supervisor was started for it. */
static int accept_one(int listener, int signals, int running, const sigset_t *no_signals) {
  int conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (conn < 0) return 0;
  pid_t pid = -1;
  if (!is_permitted(conn)) {
    frame_error(conn, EPERM, "connect: only the helper's own user may");
  } else if (running >= SUPERVISORS_MAX || (pid = fork()) < 0) {
    frame_error(conn, EAGAIN, "too many requests at a time");
  }
  if (pid == 0) {
    close(listener);
    close(signals);
    sigprocmask(SIG_SETMASK, no_signals, NULL);
    supervise(conn);
  }
  close(conn);
  return pid > 0 ? 1 : 0;
}

/* Out-of-memory kills must hit the user's processes, not the one that lets the user in. Children reset it. */
static void protect_from_oom(void) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t written = write(fd, "-1000", 5);
  (void)written;
  close(fd);
}

int run_serve(const char *socket_path) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_DFL);
  protect_from_oom();
  sigset_t handled, none;
  sigemptyset(&none);
  sigemptyset(&handled);
  sigaddset(&handled, SIGCHLD);
  sigaddset(&handled, SIGTERM);
  sigaddset(&handled, SIGINT);
  sigprocmask(SIG_SETMASK, &handled, NULL);
  int signals = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
  int listener = listen_on(socket_path);
  if (signals < 0 || listener < 0) {
    fprintf(stderr, "hob-helper: serve %s: %s\n", socket_path, strerror(errno));
    return 1;
  }
  for (int running = 0;;) {
    struct pollfd fds[2] = {{.fd = listener, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return 1;
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof info) == (ssize_t)sizeof info) {
      if (info.ssi_signo != SIGCHLD) {
        unlink(socket_path);
        return 0;
      }
    }
    running -= reap_supervisors();
    if (fds[0].revents & POLLIN) running += accept_one(listener, signals, running, &none);
  }
}
