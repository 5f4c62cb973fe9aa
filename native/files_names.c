/* Ids of users and groups by the container's own files. They belong to the user: nothing in them is trusted. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

/* (uid_t)-1 means "no change" for the kernel, and therefore no id. chown(2) */
static bool parse_id(const char *text, const char *end, uint32_t *id) {
  uint64_t value = 0;
  if (text == end || end - text > 10) return false;
  for (; text < end; text++) {
    if (*text < '0' || *text > '9') return false;
    value = value * 10 + (uint64_t)(*text - '0');
  }
  *id = (uint32_t)value;
  return value < UINT32_MAX;
}

/* passwd(5) and group(5) agree in what matters here: NAME:…:ID. */
static bool id_in_line(const char *line, const char *end, const char *name, uint32_t *id) {
  size_t length = strlen(name);
  if ((size_t)(end - line) <= length || memcmp(line, name, length) != 0 || line[length] != ':') return false;
  const char *colon = memchr(line + length + 1, ':', (size_t)(end - line) - length - 1);
  if (colon == NULL) return false;
  const char *id_end = memchr(colon + 1, ':', (size_t)(end - colon) - 1);
  return parse_id(colon + 1, id_end == NULL ? end : id_end, id);
}

static bool find_in(const char *text, size_t length, const char *name, uint32_t *id) {
  for (const char *line = text, *end = text + length; line < end;) {
    const char *newline = memchr(line, '\n', (size_t)(end - line));
    const char *line_end = newline == NULL ? end : newline;
    if (id_in_line(line, line_end, name, id)) return true;
    line = line_end + 1;
  }
  return false;
}

static bool find_name(const char *file, const char *name, uint32_t *id) {
  int fd = open_path(AT_FDCWD, file, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  struct stat info;
  char *text = malloc(GROUP_FILE_MAX);
  bool found = false;
  if (fd >= 0 && text != NULL && fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
    size_t length = 0;
    ssize_t got;
    while (length < GROUP_FILE_MAX && (got = read(fd, text + length, GROUP_FILE_MAX - length)) > 0) length += (size_t)got;
    found = find_in(text, length, name, id);
  }
  free(text);
  if (fd >= 0) close(fd);
  return found;
}

int find_id(const char *file, const char *text, uint32_t *id) {
  *id = UINT32_MAX;
  if (text == NULL) return 0;
  if (text[0] != 0 && text[0] != '+' && strchr(text, ':') == NULL && find_name(file, text, id)) return 0;
  const char *digits = text[0] == '+' ? text + 1 : text;
  return parse_id(digits, digits + strlen(digits), id) ? 0 : -EINVAL;
}
