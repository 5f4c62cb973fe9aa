/* What listens in a network namespace: sock_diag(7) says which sockets, proc(5) whose they are. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "sockets.h"

#define TCP_LISTEN_STATE 10 /* TCP_LISTEN of the kernel's net/tcp_states.h */
#define ANSWER_TIMEOUT_S 5
#define PORT_OFFSET 2
#define UID_OFFSET 4
#define PID_OFFSET 8
#define INODE_OFFSET 12
#define ADDRESS_OFFSET 16

struct list {
  uint32_t count;
  uint8_t records[LISTENERS_MAX][LISTENER_BYTES];
};

static uint32_t inode_of(const uint8_t *record) { return get_u32(record + INODE_OFFSET); }

static void add_listener(struct list *list, const struct inet_diag_msg *message) {
  if (list->count == LISTENERS_MAX) return;
  uint8_t *record = list->records[list->count++];
  memset(record, 0, LISTENER_BYTES);
  record[0] = message->idiag_family == AF_INET ? 4 : 6;
  uint16_t port = htole16(ntohs(message->id.idiag_sport));
  memcpy(record + PORT_OFFSET, &port, sizeof port);
  put_u32(record + UID_OFFSET, message->idiag_uid);
  put_u32(record + INODE_OFFSET, message->idiag_inode);
  memcpy(record + ADDRESS_OFFSET, message->id.idiag_src, record[0] == 4 ? 4 : 16);
}

/* Takes the messages of one datagram. Returns 1 when more follow, 0 at the end, -errno. */
static int take_messages(struct list *list, const uint8_t *bytes, size_t length) {
  for (const struct nlmsghdr *header = (const struct nlmsghdr *)bytes; NLMSG_OK(header, length); header = NLMSG_NEXT(header, length)) {
    if (header->nlmsg_type == NLMSG_DONE) return 0;
    if (header->nlmsg_type == NLMSG_ERROR) return ((const struct nlmsgerr *)NLMSG_DATA(header))->error ?: -EPROTO;
    if (header->nlmsg_len >= NLMSG_LENGTH(sizeof(struct inet_diag_msg))) add_listener(list, NLMSG_DATA(header));
  }
  return 1;
}

/* Adds all listening sockets of one family, in the order of the kernel's table. */
static int dump_family(int netlink, uint8_t family, struct list *list) {
  struct {
    struct nlmsghdr header;
    struct inet_diag_req_v2 body;
  } request = {
      .header = {.nlmsg_len = sizeof request, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
      .body = {.sdiag_family = family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = 1u << TCP_LISTEN_STATE},
  };
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  if (sendto(netlink, &request, sizeof request, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0) return -errno;
  int more = 1;
  while (more == 1) {
    static uint8_t answer[32768] __attribute__((aligned(8)));
    ssize_t length = recv(netlink, answer, sizeof answer, 0);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return errno == EAGAIN ? -ETIMEDOUT : -errno;
    more = take_messages(list, answer, (size_t)length);
  }
  return more;
}

static int compare_records(const void *a, const void *b) { return memcmp(a, b, LISTENER_BYTES); }

/* In a fixed order: the kernel's may change while nothing else does. A kernel without IPv6 answers ENOENT for it. */
static int dump(int netlink, struct list *list) {
  list->count = 0;
  int err = dump_family(netlink, AF_INET, list);
  if (err == 0) err = dump_family(netlink, AF_INET6, list);
  qsort(list->records, list->count, LISTENER_BYTES, compare_records);
  return err == -ENOENT ? 0 : err;
}

/* ---- owners ---- */

/* The process's id in the container: the second of NSpid in proc_pid_status(5), the first being the one in this namespace. */
static uint32_t container_pid(const char *pid) {
  char path[64], line[256];
  snprintf(path, sizeof path, "/proc/%.20s/status", pid);
  FILE *file = fopen(path, "re");
  if (file == NULL) return 0;
  unsigned outer = 0, inner = 0;
  while (fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "NSpid: %u %u", &outer, &inner) >= 1) break;
  }
  fclose(file);
  return inner != 0 ? inner : outer;
}

/* Gives the process to those records whose socket it holds and that have no owner yet. Returns how many. */
static uint32_t claim(struct list *list, const char *pid) {
  char path[64], target[64];
  snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
  DIR *fds = opendir(path);
  if (fds == NULL) return 0;
  uint32_t claimed = 0, owner = 0;
  for (const struct dirent *entry; (entry = readdir(fds)) != NULL;) {
    ssize_t length = readlinkat(dirfd(fds), entry->d_name, target, sizeof target - 1);
    unsigned inode;
    if (length < 0) continue;
    target[length] = 0;
    if (sscanf(target, "socket:[%u]", &inode) != 1) continue;
    for (uint32_t i = 0; i < list->count; i++) {
      if (inode_of(list->records[i]) != inode || get_u32(list->records[i] + PID_OFFSET) != 0) continue;
      if (owner == 0) owner = container_pid(pid);
      put_u32(list->records[i] + PID_OFFSET, owner);
      claimed++;
    }
  }
  closedir(fds);
  return claimed;
}

static ino_t network_of(const char *pid) {
  char path[64];
  struct stat info;
  snprintf(path, sizeof path, "/proc/%.20s/ns/net", pid);
  return stat(path, &info) == 0 ? info.st_ino : 0;
}

/*
 * Looks the owners up: of a socket that several processes hold, as after a fork, the oldest, since /proc is in the order
 * of process ids. A socket without an owner has process id 0: it was closed at this moment, or is the kernel's.
 */
static void find_owners(struct list *list, pid_t target) {
  char name[16];
  snprintf(name, sizeof name, "%d", target);
  ino_t network = network_of(name);
  DIR *proc = opendir("/proc");
  if (proc == NULL) return;
  uint32_t missing = list->count;
  for (const struct dirent *entry; missing > 0 && (entry = readdir(proc)) != NULL;) {
    if (isdigit((unsigned char)entry->d_name[0]) && network_of(entry->d_name) == network) missing -= claim(list, entry->d_name);
  }
  closedir(proc);
}

/* ---- the watch ---- */

/* Whether the client and the container are still there after the interval. */
static bool sleep_on(int conn, int target_pidfd, int interval_ms) {
  struct pollfd fds[2] = {{.fd = conn, .events = POLLIN}, {.fd = target_pidfd, .events = POLLIN}};
  int64_t end = now_ms() + interval_ms;
  for (int64_t left = interval_ms; left > 0; left = end - now_ms()) {
    int ready = poll(fds, 2, (int)left);
    if (ready > 0 || (ready < 0 && errno != EINTR)) return false;
  }
  return true;
}

void watch_listeners(int conn, pid_t target, int target_pidfd, uint32_t interval_ms) {
  static struct list seen, now;
  struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
  int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (netlink < 0) return frame_error(conn, errno, "open sock_diag: %s", strerror(errno));
  setsockopt(netlink, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  bool first = true;
  do {
    int err = dump(netlink, &now);
    if (err < 0) {
      frame_error(conn, -err, "list listening sockets: %s", strerror(-err));
      break;
    }
    bool same = now.count == seen.count && memcmp(now.records, seen.records, now.count * LISTENER_BYTES) == 0;
    if (same && !first) continue;
    memcpy(&seen, &now, sizeof seen);
    find_owners(&now, target);
    if (first && frame_write(conn, FRAME_OK, NULL, 0) < 0) break;
    first = false;
    if (frame_write(conn, FRAME_LISTENERS, now.records, now.count * LISTENER_BYTES) < 0) break;
  } while (sleep_on(conn, target_pidfd, (int)interval_ms));
  close(netlink);
}
