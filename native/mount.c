/*
 * Mounts through the file-descriptor interface, optionally idmapped: the ids of the read-only layers become those of
 * the container's user namespace without changing a byte of them. mount_setattr(2).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hob.h"

#define OPTIONS_MAX 32

struct mount_request {
  const char *fstype; /* "bind" clones the mount at source */
  const char *source;
  const char *target;
  const char *userns; /* path of a user namespace; NULL = by base and count */
  const char *options[OPTIONS_MAX];
  uint32_t option_count;
  uint64_t attributes;
  uint32_t id_base, id_count; /* count 0 and no path: no idmap */
};

struct failure {
  int err;
  char text[512];
};

static int fail(struct failure *failure, int err, const char *what, const char *object) {
  failure->err = err;
  snprintf(failure->text, sizeof failure->text, "%s %s: %s", what, object, strerror(err));
  return -1;
}

static bool add_attribute(struct mount_request *request, const char *name) {
  static const struct {
    const char *name;
    uint64_t value;
  } known[] = {{"ro", MOUNT_ATTR_RDONLY},     {"nosuid", MOUNT_ATTR_NOSUID},   {"nodev", MOUNT_ATTR_NODEV},
               {"noexec", MOUNT_ATTR_NOEXEC}, {"noatime", MOUNT_ATTR_NOATIME}, {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW}};
  for (size_t i = 0; name != NULL && i < sizeof known / sizeof known[0]; i++) {
    if (strcmp(name, known[i].name) == 0) {
      request->attributes |= known[i].value;
      return true;
    }
  }
  return false;
}

static bool apply_item(struct mount_request *request, const struct item *item) {
  switch (item->tag) {
    case TAG_FSTYPE: return (request->fstype = item_string(item)) != NULL;
    case TAG_SOURCE: return (request->source = item_string(item)) != NULL;
    case TAG_PATH: return (request->target = item_string(item)) != NULL;
    case TAG_USERNS: return (request->userns = item_string(item)) != NULL;
    case TAG_ATTRIBUTE: return add_attribute(request, item_string(item));
    case TAG_ID_BASE: return item_u32(item, &request->id_base);
    case TAG_ID_COUNT: return item_u32(item, &request->id_count);
    case TAG_OPTION:
      if (request->option_count == OPTIONS_MAX) return false;
      return (request->options[request->option_count++] = item_string(item)) != NULL;
    default: return false;
  }
}

static bool parse(const struct frame *frame, struct mount_request *request) {
  struct cursor cursor = {frame->data, frame->data + frame->length};
  struct item item;
  int more;
  while ((more = item_next(&cursor, &item)) == 1) {
    if (!apply_item(request, &item)) return false;
  }
  return more == 0 && request->fstype != NULL && request->source != NULL && request->target != NULL;
}

/* The newest message that the file system left on its context; it says more than errno. */
static int fail_with_log(struct failure *failure, int fs, const char *what, const struct mount_request *request) {
  int err = errno;
  char log[256];
  ssize_t length = read(fs, log, sizeof log - 1);
  fail(failure, err, what, request->source);
  if (length > 0) {
    log[length] = 0;
    log[strcspn(log, "\n")] = 0;
    size_t used = strlen(failure->text);
    snprintf(failure->text + used, sizeof failure->text - used, " (%s)", log);
  }
  return -1;
}

static int set_option(int fs, const char *option) {
  const char *equals = strchr(option, '=');
  if (equals == NULL) return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, option, NULL, 0);
  char key[64];
  if ((size_t)(equals - option) >= sizeof key) {
    errno = EINVAL;
    return -1;
  }
  memcpy(key, option, (size_t)(equals - option));
  key[equals - option] = 0;
  return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, equals + 1, 0);
}

static int configure(int fs, const struct mount_request *request, struct failure *failure) {
  if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", request->source, 0) < 0) return fail_with_log(failure, fs, "set the source", request);
  if ((request->attributes & MOUNT_ATTR_RDONLY) && syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0) {
    return fail_with_log(failure, fs, "set ro of", request);
  }
  for (uint32_t i = 0; i < request->option_count; i++) {
    if (set_option(fs, request->options[i]) < 0) return fail_with_log(failure, fs, "set the options of", request);
  }
  if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) return fail_with_log(failure, fs, "open the file system on", request);
  return 0;
}

/* A mount that is attached nowhere yet. */
static int detached_mount(const struct mount_request *request, struct failure *failure) {
  if (strcmp(request->fstype, "bind") == 0) {
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, request->source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return tree < 0 ? fail(failure, errno, "open_tree", request->source) : tree;
  }
  int fs = (int)syscall(SYS_fsopen, request->fstype, FSOPEN_CLOEXEC);
  if (fs < 0) return fail(failure, errno, "fsopen", request->fstype);
  int mount = -1;
  if (configure(fs, request, failure) == 0) {
    mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
    if (mount < 0) fail_with_log(failure, fs, "fsmount", request);
  }
  close(fs);
  return mount;
}

static int write_map(pid_t pid, const char *name, uint32_t base, uint32_t count) {
  char path[64], text[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
  int length = snprintf(text, sizeof text, "0 %u %u\n", base, count);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t written = write(fd, text, (size_t)length);
  int err = errno;
  close(fd);
  errno = err;
  return written == length ? 0 : -1;
}

/*
 * A user namespace needs a process only until someone holds a descriptor of it. The holder waits on a pipe of which
 * this process has the only write end, so it ends with this process at the latest.
 */
static int new_userns(uint32_t base, uint32_t count, struct failure *failure) {
  int hold[2];
  if (pipe2(hold, O_CLOEXEC) < 0) return fail(failure, errno, "pipe2", "");
  struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
  pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
  if (pid == 0) {
    /* Ends with the last write end, so also when the helper is killed. */
    char byte;
    close(hold[1]);
    ssize_t got = read(hold[0], &byte, 1);
    _exit(got == 0 ? 0 : 1);
  }
  close(hold[0]);
  int fd = -1;
  if (pid < 0) {
    fail(failure, errno, "create a user namespace", "");
  } else if (write_map(pid, "uid_map", base, count) < 0 || write_map(pid, "gid_map", base, count) < 0) {
    fail(failure, errno, "map the ids of", "a user namespace");
  } else {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail(failure, errno, "open", path);
  }
  close(hold[1]);
  if (pid > 0) waitpid(pid, NULL, 0);
  return fd;
}

static int open_userns(const struct mount_request *request, struct failure *failure) {
  if (request->userns == NULL) return new_userns(request->id_base, request->id_count, failure);
  int fd = open(request->userns, O_RDONLY | O_CLOEXEC);
  return fd < 0 ? fail(failure, errno, "open user namespace", request->userns) : fd;
}

static int set_attributes(int mount, const struct mount_request *request, struct failure *failure) {
  struct mount_attr attributes = {.attr_set = request->attributes};
  /* The ways to keep access times are one field: it is set by clearing it first. */
  if (request->attributes & MOUNT_ATTR_NOATIME) attributes.attr_clr = MOUNT_ATTR__ATIME;
  int userns = -1;
  if (request->userns != NULL || request->id_count > 0) {
    userns = open_userns(request, failure);
    if (userns < 0) return -1;
    attributes.attr_set |= MOUNT_ATTR_IDMAP;
    attributes.userns_fd = (uint64_t)userns;
  }
  long result = attributes.attr_set == 0 ? 0 : syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH, &attributes, sizeof attributes);
  int err = errno;
  if (userns >= 0) close(userns);
  return result < 0 ? fail(failure, err, "set the attributes of the mount of", request->source) : 0;
}

void serve_idmap_mount(int conn, const struct frame *frame) {
  struct mount_request request = {0};
  struct failure failure = {0};
  if (!parse(frame, &request)) return frame_error(conn, EINVAL, "mount request: malformed item, or type, source or target missing");
  int mount = detached_mount(&request, &failure);
  if (mount >= 0 && set_attributes(mount, &request, &failure) == 0 &&
      syscall(SYS_move_mount, mount, "", AT_FDCWD, request.target, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
    fail(&failure, errno, "attach the mount at", request.target);
  }
  if (mount >= 0) close(mount);
  if (failure.err != 0) frame_error(conn, failure.err, "%s", failure.text);
  else frame_write(conn, FRAME_OK, NULL, 0);
}
