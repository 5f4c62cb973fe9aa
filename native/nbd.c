/*
 * The NBD request: connects a network block device of the kernel to a server of this machine, by generic netlink. The
 * kernel then owns the connection: no process has to stay for the device, and one whose server has gone waits for
 * another. include/uapi/linux/nbd-netlink.h; Documentation/admin-guide/blockdev/nbd.rst of the kernel.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/nbd.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hob.h"

/* What the volume over it may ask for: less than a block of the device is refused by the kernel. */
#define BLOCK_BYTES 512
/* Seconds that reads of a device without a server wait for the next one: the pilot may be starting anew. */
#define DEAD_CONNECTION_S 300

enum action { ACTION_CONNECT = 0, ACTION_RECONNECT = 1, ACTION_DISCONNECT = 2 };

struct block_request {
  uint32_t action, index;
  uint64_t size;
  const char *socket;
};

static bool parse(const struct frame *frame, struct block_request *request) {
  struct cursor cursor = {frame->data, frame->data + frame->length};
  struct item item;
  int more;
  *request = (struct block_request){.action = UINT32_MAX, .index = UINT32_MAX};
  while ((more = item_next(&cursor, &item)) == 1) {
    bool good = false;
    if (item.tag == TAG_NBD_ACTION) good = item_u32(&item, &request->action);
    else if (item.tag == TAG_NBD_INDEX) good = item_u32(&item, &request->index);
    else if (item.tag == TAG_NBD_SIZE) good = item_u64(&item, &request->size);
    else if (item.tag == TAG_NBD_SOCKET) good = (request->socket = item_string(&item)) != NULL;
    if (!good) return false;
  }
  if (more < 0 || request->index > 255) return false;
  if (request->action == ACTION_DISCONNECT) return true;
  bool sized = request->action == ACTION_RECONNECT || (request->size > 0 && request->size % BLOCK_BYTES == 0);
  return request->action <= ACTION_RECONNECT && request->socket != NULL && sized;
}

static void read_family(const struct nlmsghdr *message, void *context) {
  const uint8_t *payload = NLMSG_DATA(message);
  int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(GENL_HDRLEN);
  for (const struct rtattr *at = (const struct rtattr *)(payload + GENL_HDRLEN); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
    if (at->rta_type == CTRL_ATTR_FAMILY_ID && RTA_PAYLOAD(at) >= sizeof(uint16_t)) memcpy(context, RTA_DATA(at), sizeof(uint16_t));
  }
}

static void begin_generic(struct nl_buffer *buffer, uint16_t family, uint8_t command, uint8_t version) {
  nl_begin(buffer, family, 0);
  struct genlmsghdr *header = nl_extend(buffer, GENL_HDRLEN);
  header->cmd = command;
  header->version = version;
}

/* The number that the kernel gave the family "nbd": 0 while the module is not loaded. */
static int find_family(struct netlink *nl, uint16_t *family) {
  struct nl_buffer buffer;
  *family = 0;
  begin_generic(&buffer, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
  nl_put_text(&buffer, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME);
  int result = nl_request(nl, &buffer, read_family, family);
  return result < 0 ? result : *family == 0 ? -ENODEV : 0;
}

static int connect_server(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  int err = errno;
  close(fd);
  return -err;
}

static void put_socket(struct nl_buffer *buffer, int fd) {
  uint32_t number = (uint32_t)fd;
  struct rtattr *sockets = nl_put(buffer, NBD_ATTR_SOCKETS | NLA_F_NESTED, NULL, 0);
  struct rtattr *item = nl_put(buffer, NBD_SOCK_ITEM | NLA_F_NESTED, NULL, 0);
  nl_put(buffer, NBD_SOCK_FD, &number, sizeof number);
  nl_end_nested(buffer, item);
  nl_end_nested(buffer, sockets);
}

static int act(const struct block_request *request, int fd) {
  static const uint8_t commands[] = {NBD_CMD_CONNECT, NBD_CMD_RECONFIGURE, NBD_CMD_DISCONNECT};
  const uint64_t block = BLOCK_BYTES, dead = DEAD_CONNECTION_S, flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY;
  struct netlink nl;
  struct nl_buffer buffer;
  uint16_t family;
  int result = nl_open(&nl, NETLINK_GENERIC);
  if (result < 0) return result;
  result = find_family(&nl, &family);
  if (result == 0) {
    begin_generic(&buffer, family, commands[request->action], NBD_GENL_VERSION);
    nl_put(&buffer, NBD_ATTR_INDEX, &request->index, sizeof request->index);
    if (request->action == ACTION_CONNECT) {
      nl_put(&buffer, NBD_ATTR_SIZE_BYTES, &request->size, sizeof request->size);
      nl_put(&buffer, NBD_ATTR_BLOCK_SIZE_BYTES, &block, sizeof block);
      nl_put(&buffer, NBD_ATTR_SERVER_FLAGS, &flags, sizeof flags);
    }
    if (request->action != ACTION_DISCONNECT) {
      nl_put(&buffer, NBD_ATTR_DEAD_CONN_TIMEOUT, &dead, sizeof dead);
      put_socket(&buffer, fd);
    }
    result = nl_request(&nl, &buffer, NULL, NULL);
  }
  close(nl.fd);
  return result;
}

void serve_nbd(int conn, const struct frame *frame) {
  struct block_request request;
  if (!parse(frame, &request)) return frame_error(conn, EINVAL, "nbd request: action, device and, to connect, size and socket expected");
  int fd = request.action == ACTION_DISCONNECT ? -1 : connect_server(request.socket);
  if (request.action != ACTION_DISCONNECT && fd < 0) {
    return frame_error(conn, -fd, "connect to block server %s: %s", request.socket, strerror(-fd));
  }
  int result = act(&request, fd);
  if (fd >= 0) close(fd);
  if (result < 0) frame_error(conn, -result, "set up /dev/nbd%u: %s", request.index, strerror(-result));
  else frame_write(conn, FRAME_OK, NULL, 0);
}
