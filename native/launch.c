/*
 * Starts the child of one exec: prepares what has to be opened in the root namespace, forks into the
 * container's pid namespace and its cgroup, and receives the standard streams that the child opened inside.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hob.h"

#define STREAM_FDS 3
#define FILTER_INSTRUCTIONS_MAX 4096 /* BPF_MAXINSNS */

static int fail(char *why, size_t why_size, int err, const char *what, const char *object) {
  snprintf(why, why_size, "%s%s%s", what, object[0] == 0 ? "" : " ", object);
  return -err;
}

/*
 * Namespaces in which the target differs from this process. setns(2) refuses (EINVAL) to enter the user
 * namespace that the caller is in already, so only what differs is entered.
 */
static int different_namespaces(pid_t target) {
  static const struct {
    const char *name;
    int flag;
  } kinds[] = {
      {"user", CLONE_NEWUSER}, {"mnt", CLONE_NEWNS}, {"net", CLONE_NEWNET},       {"ipc", CLONE_NEWIPC},
      {"uts", CLONE_NEWUTS},   {"time", CLONE_NEWTIME}, {"cgroup", CLONE_NEWCGROUP},
  };
  int flags = 0;
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    char own[64], other[64];
    struct stat own_info, other_info;
    snprintf(own, sizeof own, "/proc/self/ns/%s", kinds[i].name);
    snprintf(other, sizeof other, "/proc/%d/ns/%s", target, kinds[i].name);
    if (stat(own, &own_info) < 0 || stat(other, &other_info) < 0) continue;
    if (own_info.st_ino != other_info.st_ino || own_info.st_dev != other_info.st_dev) flags |= kinds[i].flag;
  }
  return flags;
}

/* Reads a filter as crun stores it: an array of struct sock_filter and nothing else. */
static int read_filter(const char *path, struct exec_plan *plan) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  size_t size_max = FILTER_INSTRUCTIONS_MAX * sizeof(struct sock_filter);
  plan->filter = malloc(size_max + 1);
  size_t length = 0;
  ssize_t got = -1;
  while (plan->filter != NULL && (got = read(fd, (char *)plan->filter + length, size_max + 1 - length)) > 0) length += (size_t)got;
  close(fd);
  if (got < 0 || length == 0 || length > size_max || length % sizeof(struct sock_filter) != 0) return -EINVAL;
  plan->filter_length = (unsigned short)(length / sizeof(struct sock_filter));
  return 0;
}

/*
 * fork(2) into a cgroup: CLONE_INTO_CGROUP avoids the migration of a running process, which waits for an RCU
 * grace period. Returns like fork.
 */
static pid_t fork_into(int cgroup_fd, int *pidfd) {
  struct clone_args args = {.flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD};
  if (cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = (uint64_t)cgroup_fd;
  }
  return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

/* The cgroup that the target itself is in, by proc_pid_cgroup(5). Returns an O_PATH descriptor or -errno. */
static int open_cgroup_of(pid_t target) {
  char path[64], line[4096], dir[4200];
  snprintf(path, sizeof path, "/proc/%d/cgroup", target);
  FILE *file = fopen(path, "re");
  if (file == NULL) return -errno;
  int fd = -ENOENT;
  while (fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, "0::/", 4) != 0) continue;
    line[strcspn(line, "\n")] = 0;
    snprintf(dir, sizeof dir, "/sys/fs/cgroup%s", line + 3);
    fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) fd = -errno;
  }
  fclose(file);
  return fd;
}

/*
 * A container that runs containers itself moves its processes into a child cgroup and enables controllers for
 * children; the kernel then refuses (EBUSY) new processes in the parent, and they belong beside its PID 1.
 */
static pid_t fork_child(const struct exec_request *request, int cgroup_fd, int *pidfd) {
  pid_t pid = fork_into(cgroup_fd, pidfd);
  if (pid >= 0 || errno != EBUSY || request->target_pid == 0) return pid;
  int fallback = open_cgroup_of((pid_t)request->target_pid);
  if (fallback < 0) {
    errno = EBUSY;
    return -1;
  }
  pid = fork_into(fallback, pidfd);
  int err = errno;
  close(fallback);
  errno = err;
  return pid;
}

/* Receives the status message and up to STREAM_FDS descriptors. Returns their number or -errno. */
static int receive_status(int fd, struct child_status *status, int *fds) {
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  int ready;
  while ((ready = poll(&poll_fd, 1, REQUEST_TIMEOUT_MS)) < 0 && errno == EINTR) continue;
  if (ready == 0) return -ETIMEDOUT;
  union {
    char bytes[CMSG_SPACE(STREAM_FDS * sizeof(int))];
    struct cmsghdr align;
  } control;
  struct iovec part = {.iov_base = status, .iov_len = sizeof *status};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  if (got != (ssize_t)sizeof *status) return got < 0 ? -errno : -ECHILD;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header == NULL || header->cmsg_type != SCM_RIGHTS) return 0;
  size_t size = header->cmsg_len - CMSG_LEN(0);
  memcpy(fds, CMSG_DATA(header), size);
  return (int)(size / sizeof(int));
}

/*
 * The master was opened by path in a mount namespace that the user owns, so it may be anything.
 * Only the pty multiplexer (character device 5:2) is used.
 */
static bool is_pty_master(int fd) {
  struct stat info;
  return fstat(fd, &info) == 0 && S_ISCHR(info.st_mode) && info.st_rdev == makedev(5, 2);
}

static int adopt_streams(const struct exec_request *request, const int *fds, int count, struct child *child) {
  if (count != (request->argc == 0 ? 0 : request->tty ? 2 : 3)) {
    for (int i = 0; i < count; i++) close(fds[i]);
    return -EPROTO;
  }
  if (count == 0) return 0;
  child->input = fds[0];
  child->output = request->tty ? fds[0] : fds[1];
  child->errors = request->tty ? -1 : fds[2];
  child->slave = request->tty ? fds[1] : -1;
  if (request->tty && !is_pty_master(child->input)) return -ENODEV;
  for (int i = 0; i < count; i++) {
    if (fds[i] != child->slave) fcntl(fds[i], F_SETFL, O_NONBLOCK);
  }
  /* A size that cannot be had changes only the speed. Not of standard error: all pipes of a user share a limit, pipe(7). */
  if (!request->tty) fcntl(child->output, F_SETPIPE_SZ, OUTPUT_PIPE_SIZE);
  return 0;
}

static int await_child(const struct exec_request *request, int status_fd, struct child *child, char *why, size_t why_size) {
  struct child_status status;
  int fds[STREAM_FDS];
  int count = receive_status(status_fd, &status, fds);
  if (count < 0) return fail(why, why_size, -count, "enter the container", "");
  status.step[sizeof status.step - 1] = 0;
  int adopted = status.err != 0 ? 0 : adopt_streams(request, fds, count, child);
  if (adopted < 0) return fail(why, why_size, -adopted, "open a terminal in the container", "");
  return status.err == 0 ? 0 : fail(why, why_size, status.err, status.step, "");
}

static int start(const struct exec_request *request, struct exec_plan *plan, int cgroup_fd, const struct child_main *main,
                 struct child *child, char *why, size_t why_size) {
  int status[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status) < 0) return fail(why, why_size, errno, "socketpair", "");
  plan->target_pidfd = child->target_pidfd;
  plan->status_fd = status[1];
  child->pid = fork_child(request, cgroup_fd, &child->pidfd);
  if (child->pid == 0) main->run(request, plan, main->context);
  int err = errno;
  close(status[1]);
  int result = child->pid < 0 ? fail(why, why_size, err, "fork into cgroup", request->cgroup)
                              : await_child(request, status[0], child, why, why_size);
  close(status[0]);
  if (result < 0 && child->pid > 0) {
    kill(child->pid, SIGKILL);
    waitpid(child->pid, NULL, 0);
  }
  return result;
}

/* Read here: the child's process ids are already those of the container. */
static void read_limits(pid_t target, struct exec_plan *plan) {
  for (int resource = 0; resource < (int)RLIM_NLIMITS; resource++) {
    if (prlimit(target, (__rlimit_resource_t)resource, NULL, &plan->limits[resource]) < 0) return;
  }
  plan->limit_count = (int)RLIM_NLIMITS;
}

/* Opens the target and makes its pid namespace the one of this process's future children. */
static int prepare_target(const struct exec_request *request, struct exec_plan *plan, struct child *child, char *why, size_t why_size) {
  pid_t target = (pid_t)request->target_pid;
  child->target_pidfd = (int)syscall(SYS_pidfd_open, target, 0);
  if (child->target_pidfd < 0) return fail(why, why_size, errno, "pidfd_open of the container's init", "");
  plan->namespaces = different_namespaces(target);
  /* What runs no program of the user's keeps the platform's limits. */
  if (request->argc > 0) read_limits(target, plan);
  if (setns(child->target_pidfd, CLONE_NEWPID) < 0) return fail(why, why_size, errno, "setns to the pid namespace", "");
  return 0;
}

int launch_child(const struct exec_request *request, const struct child_main *main, struct child *child, char *why, size_t why_size) {
  *child = (struct child){.pid = -1, .pidfd = -1, .target_pidfd = -1, .input = -1, .output = -1, .errors = -1, .slave = -1};
  struct exec_plan plan = {.target_pidfd = -1};
  if (request->seccomp[0] != 0) {
    int read = read_filter(request->seccomp, &plan);
    if (read < 0) return fail(why, why_size, -read, "read seccomp filter", request->seccomp);
  }
  int cgroup_fd = -1;
  if (request->cgroup[0] != 0) {
    cgroup_fd = open(request->cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (cgroup_fd < 0) return fail(why, why_size, errno, "open cgroup", request->cgroup);
  }
  int result = request->target_pid == 0 ? 0 : prepare_target(request, &plan, child, why, why_size);
  if (result == 0) result = start(request, &plan, cgroup_fd, main, child, why, why_size);
  if (cgroup_fd >= 0) close(cgroup_fd);
  free(plan.filter);
  return result;
}
