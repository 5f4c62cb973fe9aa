/*
 * Supplementary groups from the container's /etc/group, format group(5).
 * The file belongs to the user: every size is bounded and nothing in it is trusted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hob.h"

/* End of the field that begins at text: the next ':' or the end of the line. */
static const char *field_end(const char *text, const char *line_end) {
  const char *colon = memchr(text, ':', (size_t)(line_end - text));
  return colon == NULL ? line_end : colon;
}

/* A decimal group id. 4294967295 is (gid_t)-1, "no change" for the kernel, and therefore no id. */
static bool parse_gid(const char *text, const char *end, gid_t *gid) {
  uint64_t value = 0;
  if (text == end || end - text > 10) return false;
  for (; text < end; text++) {
    if (*text < '0' || *text > '9') return false;
    value = value * 10 + (uint64_t)(*text - '0');
  }
  if (value >= UINT32_MAX) return false;
  *gid = (gid_t)value;
  return true;
}

static bool is_member(const char *list, const char *end, const char *user) {
  size_t user_length = strlen(user);
  while (list < end) {
    const char *comma = memchr(list, ',', (size_t)(end - list));
    const char *name_end = comma == NULL ? end : comma;
    if ((size_t)(name_end - list) == user_length && memcmp(list, user, user_length) == 0) return true;
    list = name_end + 1;
  }
  return false;
}

int groups_of_user(const char *text, size_t length, const char *user, gid_t *groups, int groups_max) {
  const char *end = text + length;
  int count = 0;
  while (text < end && count < groups_max) {
    const char *newline = memchr(text, '\n', (size_t)(end - text));
    const char *line_end = newline == NULL ? end : newline;
    const char *name_end = field_end(text, line_end);
    const char *password_end = name_end == line_end ? line_end : field_end(name_end + 1, line_end);
    const char *gid_end = password_end == line_end ? line_end : field_end(password_end + 1, line_end);
    gid_t gid;
    if (gid_end < line_end && parse_gid(password_end + 1, gid_end, &gid) && is_member(gid_end + 1, line_end, user)) {
      groups[count++] = gid;
    }
    text = line_end + 1;
  }
  return count;
}

/* O_NONBLOCK: the path may be a FIFO. What is not a regular file counts as empty. */
int groups_read(const char *path, const char *user, gid_t *groups, int groups_max) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return 0;
  struct stat info;
  char *text = NULL;
  int count = 0;
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && (text = malloc(GROUP_FILE_MAX)) != NULL) {
    size_t length = 0;
    while (length < GROUP_FILE_MAX) {
      ssize_t got = read(fd, text + length, GROUP_FILE_MAX - length);
      if (got <= 0) break;
      length += (size_t)got;
    }
    count = groups_of_user(text, length, user, groups, groups_max);
  }
  free(text);
  close(fd);
  return count;
}
