/* What the child of a FILES request tells the client. It waits for a slow client as long as that is there. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "files.h"

#define ENTRY_HEADER 37u
#define STEPS_BETWEEN_LOOKS 128u

void send_bytes(int conn, const void *data, size_t length) {
  const uint8_t *at = data;
  while (length > 0) {
    ssize_t sent = send(conn, at, length, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) _exit(0);
    at += sent;
    length -= (size_t)sent;
  }
}

void send_frame(int conn, uint8_t type, const void *data, uint32_t length) {
  uint8_t header[FRAME_HEADER];
  put_u32(header, length);
  header[4] = type;
  send_bytes(conn, header, sizeof header);
  send_bytes(conn, data, length);
}

static void flush_entries(struct files *files) {
  if (files->entries_length > 0) send_frame(files->conn, FRAME_ENTRIES, files->entries, (uint32_t)files->entries_length);
  files->entries_length = 0;
}

static uint8_t kind_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return 'f';
    case S_IFDIR: return 'd';
    case S_IFLNK: return 'l';
    case S_IFIFO: return 'p';
    case S_IFSOCK: return 's';
    case S_IFCHR: return 'c';
    case S_IFBLK: return 'b';
    default: return '?';
  }
}

int add_entry(struct files *files, const struct stat *info, const char *link_target) {
  size_t target_length = strlen(link_target), length = ENTRY_HEADER + files->path_length + target_length;
  if (files->path_length > FILE_PATH_MAX || target_length > PATH_MAX) return -ENAMETOOLONG;
  if (files->entries_length + length > ENTRIES_SIZE) flush_entries(files);
  uint8_t *at = files->entries + files->entries_length;
  put_u16(at, (uint16_t)files->path_length);
  put_u16(at + 2, (uint16_t)target_length);
  at[4] = kind_of(info->st_mode);
  put_u32(at + 5, info->st_mode & 07777);
  put_u64(at + 9, (uint64_t)info->st_size);
  put_u64(at + 17, (uint64_t)info->st_mtim.tv_sec);
  put_u32(at + 25, (uint32_t)info->st_mtim.tv_nsec);
  put_u32(at + 29, info->st_uid);
  put_u32(at + 33, info->st_gid);
  memcpy(at + ENTRY_HEADER, files->path, files->path_length);
  memcpy(at + ENTRY_HEADER + files->path_length, link_target, target_length);
  files->entries_length += length;
  files->count++;
  return 0;
}

int add_changed(struct files *files, int dir, const char *name) {
  struct stat info = {0};
  /* The one that the request names is always told. */
  if (files->count >= LISTED_MAX && files->path_length > 0) {
    files->count++;
    return 0;
  }
  if (dir >= 0 && fstatat(dir, name, &info, AT_SYMLINK_NOFOLLOW) < 0) return errno == ENOENT ? 0 : -errno;
  return add_entry(files, &info, "");
}

int add_left_out(struct files *files, const struct stat *info) {
  if (files->left_out++ >= LISTED_MAX) return 0;
  int added = add_entry(files, info, "");
  if (added == 0) files->count--;
  return added;
}

void send_done(struct files *files, uint32_t mode) {
  uint8_t payload[20];
  flush_entries(files);
  put_u64(payload, files->count);
  put_u64(payload + 8, files->bytes);
  put_u32(payload + 16, mode);
  send_frame(files->conn, FRAME_DONE, payload, sizeof payload);
}

bool client_has_gone(struct files *files) {
  if (files->steps++ % STEPS_BETWEEN_LOOKS != 0) return false;
  struct pollfd conn = {.fd = files->conn, .events = POLLRDHUP};
  return poll(&conn, 1, 0) == 1 && (conn.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}
