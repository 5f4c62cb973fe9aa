/* Extended attributes: capabilities of programs, access lists, and what users note. xattr(7) */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/types.h>
#include <sys/xattr.h>

#include "files.h"

/* Who may not set an attribute, or has a file system that holds none of its kind, goes without it, as with cp -p. */
static bool is_refusal(int err) { return err == EPERM || err == EACCES || err == EOPNOTSUPP || err == EINVAL; }

static int names_of(int fd, char names[XATTR_LIST_MAX]) {
  ssize_t length = flistxattr(fd, names, XATTR_LIST_MAX);
  if (length >= 0) return (int)length;
  return errno == EOPNOTSUPP ? 0 : -errno;
}

static int take_all(int from, int to, const char *names, int length) {
  static char value[XATTR_SIZE_MAX];
  for (const char *name = names; name < names + length; name += strlen(name) + 1) {
    ssize_t size = fgetxattr(from, name, value, sizeof value);
    /* What is gone meanwhile, or may not be read. */
    if (size < 0) continue;
    if (fsetxattr(to, name, value, (size_t)size, 0) < 0 && !is_refusal(errno)) return -errno;
  }
  return 0;
}

/* A new file has some before anybody gave it any: the access list that its directory hands down. */
int take_extended_attributes(int from, int to) {
  static char wanted[XATTR_LIST_MAX], present[XATTR_LIST_MAX];
  int length = names_of(from, wanted), present_length = names_of(to, present);
  if (length < 0 || present_length < 0) return length < 0 ? length : present_length;
  for (const char *name = present; name < present + present_length; name += strlen(name) + 1) {
    if (fgetxattr(from, name, NULL, 0) < 0 && errno == ENODATA) (void)!fremovexattr(to, name);
  }
  return take_all(from, to, wanted, length);
}
