/*
 * The child of one exec, from fork to execve. Order matters; each step says why it stands where it stands.
 * No step allocates what it would have to free: the process ends in execve or _exit.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "hob.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND 127
#define KERNEL_SIGNALS 64

void send_status(int fd, int err, const char *step, const int *fds, size_t fd_count) {
  struct child_status status = {.err = err};
  strncpy(status.step, step, sizeof status.step - 1);
  union {
    char bytes[CMSG_SPACE(3 * sizeof(int))];
    struct cmsghdr align;
  } control = {0};
  struct iovec part = {.iov_base = &status, .iov_len = sizeof status};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd_count > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
  }
  sendmsg(fd, &message, MSG_NOSIGNAL);
}

/* Ends the child with a status message; the supervisor makes an ERROR frame of it. */
static void __attribute__((noreturn)) fail(int status_fd, const char *step) {
  send_status(status_fd, errno, step, NULL, 0);
  _exit(EXIT_CANNOT_RUN);
}

/*
 * The helper runs with -1000 and passes that on by fork. Written before the mount namespace changes: /proc is
 * still the root namespace's. proc_pid_oom_score_adj(5).
 */
static void reset_oom_score(void) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t written = write(fd, "0", 1);
  (void)written;
  close(fd);
}

/*
 * Resource limits as the container's init has them. Raising a hard limit needs CAP_SYS_RESOURCE in the root user
 * namespace, so this comes before setns; without it, the present hard limit is the bound.
 */
static void apply_limits(const struct exec_plan *plan) {
  for (int resource = 0; resource < plan->limit_count; resource++) {
    struct rlimit wanted = plan->limits[resource], own;
    if (setrlimit((__rlimit_resource_t)resource, &wanted) == 0 || getrlimit((__rlimit_resource_t)resource, &own) < 0) continue;
    if (wanted.rlim_max > own.rlim_max) wanted.rlim_max = own.rlim_max;
    if (wanted.rlim_cur > wanted.rlim_max) wanted.rlim_cur = wanted.rlim_max;
    setrlimit((__rlimit_resource_t)resource, &wanted);
  }
}

/*
 * Capabilities of a user that is not root: none effective, so that chdir and execve are checked as the user's own;
 * CAP_SYS_ADMIN stays permitted where the seccomp filter will need it, and execve drops it. capabilities(7).
 */
static int set_capabilities(uint64_t permitted, uint64_t effective) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {
      {.effective = (uint32_t)effective, .permitted = (uint32_t)permitted},
      {.effective = (uint32_t)(effective >> 32), .permitted = (uint32_t)(permitted >> 32)},
  };
  return (int)syscall(SYS_capset, &header, data);
}

/*
 * setns(2) to a user namespace gives every capability and fills the bounding set anew, whatever the container's init
 * has. Needs CAP_SETPCAP, so it comes before the change of user. EINVAL: the kernel knows no capability of this number.
 */
static void limit_capabilities(const struct exec_request *request, const struct exec_plan *plan) {
  for (unsigned int capability = 0; capability < 64; capability++) {
    if ((request->bounding_set >> capability & 1) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 && errno != EINVAL) fail(plan->status_fd, "prctl PR_CAPBSET_DROP");
  }
}

static void become_user(const struct exec_request *request, const struct exec_plan *plan) {
  gid_t groups[GROUPS_MAX];
  int count = request->user[0] == 0 ? 0 : groups_read("/etc/group", request->user, groups, GROUPS_MAX);
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) fail(plan->status_fd, "prctl PR_SET_KEEPCAPS");
  if (setgroups((size_t)count, groups) < 0) fail(plan->status_fd, "setgroups");
  if (setresgid(request->gid, request->gid, request->gid) < 0) fail(plan->status_fd, "setresgid");
  if (setresuid(request->uid, request->uid, request->uid) < 0) fail(plan->status_fd, "setresuid");
  bool keep = plan->filter != NULL && !request->no_new_privs;
  if (request->uid != 0 && set_capabilities(keep ? 1ull << CAP_SYS_ADMIN : 0, 0) < 0) fail(plan->status_fd, "capset");
  umask(022);
}

/*
 * Three pipes, made as the user: the inodes then belong to the user, and opening /dev/stdout again works.
 * The supervisor's ends travel over the status socket.
 */
static void open_pipes(const struct exec_plan *plan, int *stdio) {
  int in[2], out[2], err[2];
  if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0) fail(plan->status_fd, "pipe2");
  int supervisor_ends[3] = {in[1], out[0], err[0]};
  stdio[0] = in[0];
  stdio[1] = out[1];
  stdio[2] = err[1];
  send_status(plan->status_fd, 0, "", supervisor_ends, 3);
}

/*
 * A terminal of the container's own devpts, so that its path exists inside. The slave is opened through the master
 * (TIOCGPTPEER): no path that the user could have replaced. The size is set before the program runs.
 * O_NONBLOCK: /dev/ptmx may have been replaced by a FIFO; the supervisor checks what it really is.
 */
static void open_terminal(const struct exec_request *request, const struct exec_plan *plan, int *stdio) {
  int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (master < 0) fail(plan->status_fd, "open /dev/ptmx in the container");
  int unlock = 0;
  if (ioctl(master, TIOCSPTLCK, &unlock) < 0) fail(plan->status_fd, "unlock the terminal");
  int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) fail(plan->status_fd, "open the terminal");
  struct winsize size = {.ws_col = request->cols, .ws_row = request->rows};
  struct termios settings;
  if (ioctl(slave, TIOCSWINSZ, &size) < 0 || tcgetattr(slave, &settings) < 0) fail(plan->status_fd, "set the window size");
  settings.c_iflag |= IUTF8;
  if (tcsetattr(slave, TCSANOW, &settings) < 0) fail(plan->status_fd, "set the terminal mode");
  if (ioctl(slave, TIOCSCTTY, 0) < 0) fail(plan->status_fd, "make the terminal the controlling one");
  int supervisor_ends[2] = {master, slave};
  stdio[0] = stdio[1] = stdio[2] = slave;
  send_status(plan->status_fd, 0, "", supervisor_ends, 2);
}

/* Descriptors may be 0, 1 or 2 themselves; moving them above 2 first makes the order irrelevant. */
static void install_streams(const int *stdio) {
  int moved[3];
  for (int i = 0; i < 3; i++) moved[i] = fcntl(stdio[i], F_DUPFD, 3);
  for (int i = 0; i < 3; i++) dup2(moved[i], i);
}

static void reset_signals(void) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  for (int signal = 1; signal <= KERNEL_SIGNALS; signal++) sigaction(signal, &action, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

/* From here on, the streams are the user's; messages go there. */
static void __attribute__((noreturn)) complain(const char *object, const char *what, int code) {
  dprintf(2, "hob: %s: %s\n", object, what);
  _exit(code);
}

/* Last before execve: the filter may forbid any of the calls above. seccomp(2) asks for CAP_SYS_ADMIN or no_new_privs. */
static void apply_filter(const struct exec_request *request, const struct exec_plan *plan) {
  if (request->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) complain("no_new_privs", strerror(errno), EXIT_CANNOT_RUN);
  if (plan->filter == NULL) return;
  uint64_t admin = 1ull << CAP_SYS_ADMIN;
  if (request->uid != 0 && !request->no_new_privs && set_capabilities(admin, admin) < 0) complain("capset", strerror(errno), EXIT_CANNOT_RUN);
  struct sock_fprog program = {.len = plan->filter_length, .filter = plan->filter};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) complain("seccomp filter", strerror(errno), EXIT_CANNOT_RUN);
}

static const char *path_of(const char **env) {
  for (; *env != NULL; env++) {
    if (strncmp(*env, "PATH=", 5) == 0) return *env + 5;
  }
  return DEFAULT_PATH;
}

/* execve; a text file without an interpreter line is run by the shell, as execvp(3) does. Returns on failure only. */
static void try_exec(const char *file, const struct exec_request *request) {
  execve(file, (char **)request->argv, (char **)request->env);
  if (errno != ENOEXEC) return;
  static const char *shell_argv[STRINGS_MAX + 3];
  shell_argv[0] = "/bin/sh";
  shell_argv[1] = file;
  for (uint32_t i = 1; i < request->argc; i++) shell_argv[i + 1] = request->argv[i];
  execve("/bin/sh", (char **)shell_argv, (char **)request->env);
  errno = ENOEXEC;
}

/* Looks the name up in the given environment's PATH; an empty entry is the current directory. Returns the errno to report. */
static int exec_by_path(const struct exec_request *request) {
  const char *entry = path_of(request->env);
  int err = ENOENT;
  for (;;) {
    size_t length = strcspn(entry, ":");
    char file[4096];
    int written = snprintf(file, sizeof file, "%.*s%s%s", (int)length, entry, length == 0 ? "./" : "/", request->file);
    if (written < (int)sizeof file) {
      try_exec(file, request);
      if (errno != ENOENT && errno != ENOTDIR) err = errno;
    }
    if (entry[length] == 0) return err;
    entry += length + 1;
  }
}

static void __attribute__((noreturn)) run_program(const struct exec_request *request) {
  bool is_path = strchr(request->file, '/') != NULL;
  int err;
  if (request->file[0] == 0) {
    err = ENOENT;
  } else if (is_path) {
    try_exec(request->file, request);
    err = errno;
  } else {
    err = exec_by_path(request);
  }
  bool missing = err == ENOENT || err == ENOTDIR;
  complain(request->file, missing && !is_path ? "command not found" : strerror(err), missing ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN);
}

void enter_container(const struct exec_request *request, const struct exec_plan *plan) {
  /*
   * First: from the moment this process is visible in the container's pid namespace, its memory and descriptors
   * must not be open to the container's root. execve sets the flag anew.
   */
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) fail(plan->status_fd, "prctl PR_SET_DUMPABLE");
  if (setsid() < 0) fail(plan->status_fd, "setsid");
  reset_oom_score();
  apply_limits(plan);
  /* All namespaces at once; the kernel enters the user namespace first and checks the others with its rights. */
  if (plan->namespaces != 0 && setns(plan->target_pidfd, plan->namespaces) < 0) fail(plan->status_fd, "setns to the container's namespaces");
  /* A keyring of its own, instead of the helper's. Kernels may be built without keyrings. */
  syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0);
  limit_capabilities(request, plan);
  become_user(request, plan);
}

void enter_and_exec(const struct exec_request *request, const struct exec_plan *plan, void *context) {
  (void)context;
  enter_container(request, plan);
  int stdio[3];
  if (request->tty) open_terminal(request, plan, stdio);
  else open_pipes(plan, stdio);
  install_streams(stdio);
  syscall(SYS_close_range, 3, ~0u, 0);
  /* After the change of user, which clears it: a helper that is killed leaves no process behind. */
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  reset_signals();
  if (chdir(request->cwd) < 0) complain(request->cwd, strerror(errno), EXIT_CANNOT_RUN);
  apply_filter(request, plan);
  run_program(request);
}
