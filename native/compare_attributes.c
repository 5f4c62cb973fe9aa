/* Which extended attributes of two files differ: capabilities, access lists, notes of users. xattr(7) */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>

#include "compare.h"

/* ext4 holds no longer ones than a block; what other file systems have beyond is compared, and not shown. */
#define SHOWN_MAX 8192u
#define ABSENT UINT16_MAX
#define RECORD_HEADER 5u

/* Of the kernel's own layers, such as overlayfs: nothing that is seen inside. */
static bool is_shown(const char *name) { return strncmp(name, "trusted.", 8) != 0; }

static ssize_t names_of(const char *path, char names[XATTR_LIST_MAX]) {
  ssize_t length = llistxattr(path, names, XATTR_LIST_MAX);
  return length >= 0 ? length : errno == EOPNOTSUPP ? 0 : -errno;
}

/* Length of the value; -ENODATA if there is none. */
static ssize_t value_of(const char *path, const char *name, uint8_t value[XATTR_SIZE_MAX]) {
  ssize_t length = lgetxattr(path, name, value, XATTR_SIZE_MAX);
  return length >= 0 ? length : errno == EOPNOTSUPP ? -ENODATA : -errno;
}

static uint16_t shown_length(ssize_t length) {
  return length < 0 ? ABSENT : (uint16_t)(length < (ssize_t)SHOWN_MAX ? length : (ssize_t)SHOWN_MAX);
}

static uint8_t *put_value(uint8_t *at, const uint8_t *value, uint16_t length) {
  if (length == ABSENT) return at;
  memcpy(at, value, length);
  return at + length;
}

static int compare_one(int conn, const char *one, const char *other, const char *name) {
  static uint8_t value[XATTR_SIZE_MAX], other_value[XATTR_SIZE_MAX];
  static uint8_t record[RECORD_HEADER + XATTR_NAME_MAX + 2 * SHOWN_MAX];
  ssize_t length = value_of(one, name, value), other_length = value_of(other, name, other_value);
  if (length < 0 && length != -ENODATA) return (int)length;
  if (other_length < 0 && other_length != -ENODATA) return (int)other_length;
  if (length == other_length && (length < 0 || memcmp(value, other_value, (size_t)length) == 0)) return 0;
  size_t name_length = strlen(name);
  record[0] = (uint8_t)name_length;
  put_u16(record + 1, shown_length(length));
  put_u16(record + 3, shown_length(other_length));
  memcpy(record + RECORD_HEADER, name, name_length);
  uint8_t *end = put_value(record + RECORD_HEADER + name_length, value, shown_length(length));
  end = put_value(end, other_value, shown_length(other_length));
  return frame_write(conn, FRAME_ATTRIBUTE, record, (uint32_t)(end - record));
}

static bool has_name(const char *names, ssize_t length, const char *wanted) {
  for (const char *name = names; name < names + length; name += strlen(name) + 1) {
    if (strcmp(name, wanted) == 0) return true;
  }
  return false;
}

int compare_attributes(int conn, const char *one, const char *other) {
  static char names[XATTR_LIST_MAX], other_names[XATTR_LIST_MAX];
  ssize_t length = names_of(one, names), other_length = names_of(other, other_names);
  if (length < 0 || other_length < 0) return (int)(length < 0 ? length : other_length);
  int result = 0;
  for (const char *name = names; result == 0 && name < names + length; name += strlen(name) + 1) {
    if (is_shown(name)) result = compare_one(conn, one, other, name);
  }
  for (const char *name = other_names; result == 0 && name < other_names + other_length; name += strlen(name) + 1) {
    if (is_shown(name) && !has_name(names, length, name)) result = compare_one(conn, one, other, name);
  }
  return result;
}
