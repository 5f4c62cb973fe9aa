/*
 * Request FILES: reads the request, starts a child inside the container, and watches over it. The child speaks with the
 * client itself; this process has nothing of the user's in hand.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"

static bool take_text(const struct item *item, const char **text) {
  *text = item_string(item);
  return *text != NULL;
}

static bool take_range(struct files_request *request, const struct item *item, uint64_t *value) {
  request->ranged = true;
  return item_u64(item, value);
}

static bool take_item(struct files_request *request, const struct item *item) {
  struct exec_request *enter = &request->enter;
  switch (item->tag) {
    case TAG_TARGET_PID: return item_u32(item, &enter->target_pid);
    case TAG_CGROUP: return take_text(item, &enter->cgroup);
    case TAG_UID: return item_u32(item, &enter->uid);
    case TAG_GID: return item_u32(item, &enter->gid);
    case TAG_USER: return take_text(item, &enter->user);
    case TAG_OPERATION: return item->length == 1 && (request->operation = item->value[0]) != 0;
    case TAG_PATH: return take_text(item, &request->path);
    case TAG_DESTINATION: return take_text(item, &request->destination);
    case TAG_PATTERN: return take_text(item, &request->pattern);
    case TAG_ROOT_DIRECTORY: return take_text(item, &request->root);
    case TAG_OWNER: return take_text(item, &request->owner);
    case TAG_GROUP: return take_text(item, &request->group);
    case TAG_OFFSET: return take_range(request, item, &request->offset);
    case TAG_LENGTH: return take_range(request, item, &request->length);
    case TAG_SUFFIX: return take_range(request, item, &request->suffix) && (request->has_suffix = true);
    case TAG_MODE: return item_u32(item, &request->mode) && request->mode <= 07777 && (request->has_mode = true);
    case TAG_FILE_FLAGS: return item_u32(item, &request->flags);
    default: return false;
  }
}

static int parse(const struct frame *frame, struct files_request *request) {
  *request = (struct files_request){.path = "", .destination = "", .length = UINT64_MAX};
  request->enter = (struct exec_request){.cgroup = "", .user = "", .seccomp = ""};
  struct cursor cursor = {.at = frame->data, .end = frame->data + frame->length};
  struct item item;
  int got;
  while ((got = item_next(&cursor, &item)) == 1) {
    if (!take_item(request, &item)) return -EPROTO;
  }
  return got < 0 ? got : request->operation == 0 || request->path[0] == 0 ? -EPROTO : 0;
}

/*
 * chroot(2) confines this child because it holds no directory open and never gets one from outside. Only root may: a
 * request for another user is refused by the kernel. A copy has its source there only, and resolves it by itself.
 */
static int enter_root(struct files *files) {
  const char *root = files->request->root;
  if (root == NULL || files->request->operation == OP_COPY || (chroot(root) == 0 && chdir("/") == 0)) return 0;
  files->failed_on = root;
  return -errno;
}

static int perform(struct files *files) {
  switch (files->request->operation) {
    case OP_READ: return files_read(files);
    case OP_WRITE: return files_write(files);
    case OP_LIST: return files_list(files);
    case OP_DELETE: return files_delete(files);
    case OP_RENAME: return files_rename(files);
    case OP_COPY: return files_copy(files);
    case OP_CHMOD: return files_chmod(files);
    case OP_CHOWN: return files_chown(files);
    case OP_MKDIR: return files_mkdir(files);
    case OP_SYMLINK: return files_symlink(files);
    case OP_WATCH: return files_watch(files);
    case OP_INSTALL: return files_install(files);
    default: return -ENOSYS;
  }
}

/* errno and the path that it is about: the request's own, or what is below it. */
static void send_file_error(struct files *files, int err) {
  uint8_t payload[4 + FILE_PATH_MAX];
  const char *path = files->failed_on != NULL ? files->failed_on : files->request->path;
  const char *below = files->failed_on != NULL || files->path_length == 0 ? "" : files->path;
  put_u32(payload, (uint32_t)err);
  int length = snprintf((char *)payload + 4, FILE_PATH_MAX, "%s%s%s", path, below[0] == 0 ? "" : "/", below);
  if (length >= (int)FILE_PATH_MAX) length = (int)FILE_PATH_MAX - 1;
  send_frame(files->conn, FRAME_FILE_ERROR, payload, 4 + (uint32_t)length);
}

/* A tree of TREE_DEPTH_MAX holds as many descriptors; the soft limit is often 1024. */
static void raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

static void __attribute__((noreturn)) run(const struct exec_request *request, const struct exec_plan *plan, void *context) {
  struct files *files = context;
  sigset_t none;
  raise_descriptor_limit();
  enter_container(request, plan);
  send_status(plan->status_fd, 0, "", NULL, 0);
  /* Only the connection stays open: paths such as /dev/fd/5 lead to what a process has open. */
  files->conn = dup2(files->conn, 3);
  syscall(SYS_close_range, 4, ~0u, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  signal(SIGPIPE, SIG_IGN);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  int result = enter_root(files);
  if (result == 0) result = perform(files);
  if (result < 0) send_file_error(files, -result);
  _exit(0);
}

/*
 * Waits for the child, and ends it some time after the client has gone: first it gets the chance to remove what it has
 * begun. Nothing is read of the connection here: it is the child's.
 */
static void watch_over(int conn, struct child *child) {
  int64_t kill_at = 0;
  for (;;) {
    struct pollfd fds[2] = {{.fd = child->pidfd, .events = POLLIN}, {.fd = kill_at == 0 ? conn : -1, .events = POLLRDHUP}};
    int64_t left = kill_at - now_ms();
    if (poll(fds, 2, kill_at == 0 ? -1 : left < 0 ? 0 : (int)left) < 0 && errno != EINTR) break;
    if (fds[0].revents != 0) break;
    if (kill_at == 0 && fds[1].revents != 0) kill_at = now_ms() + KILL_GRACE_MS;
    else if (kill_at != 0 && now_ms() >= kill_at) kill(child->pid, SIGKILL), kill_at = INT64_MAX / 2;
  }
  waitpid(child->pid, NULL, 0);
}

void serve_files(int conn, const struct frame *frame) {
  static struct files files;
  struct files_request request;
  struct child child;
  char why[512];
  if (parse(frame, &request) < 0) return frame_error(conn, EPROTO, "files request: malformed");
  files = (struct files){.conn = conn, .request = &request, .path_size = PATH_MAX, .path = calloc(1, PATH_MAX)};
  if (files.path == NULL) return frame_error(conn, ENOMEM, "files: out of memory");
  const struct child_main operation = {.run = run, .context = &files};
  int err = -launch_child(&request.enter, &operation, &child, why, sizeof why);
  if (err != 0) frame_error(conn, err, "%s: %s", why, strerror(err));
  else watch_over(conn, &child);
  if (child.pidfd >= 0) close(child.pidfd);
  if (child.target_pidfd >= 0) close(child.target_pidfd);
  free(files.path);
}
