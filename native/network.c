/* The network request: a veth pair between this namespace and the container's, complete with addresses and routes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hob.h"

#define ADDRESSES_MAX 8
#define MTU_MIN 1280 /* the least that IPv6 accepts, RFC 8200 section 5 */

struct address_list {
  struct ip_address items[ADDRESSES_MAX];
  int count;
};

struct network_request {
  const char *outer, *inner;
  uint32_t inner_pid, mtu;
  struct address_list outer_addresses, inner_addresses, gateways;
};

/* "10.0.0.1/24", "fdf::1/64", or without a prefix a single address. */
static bool parse_address(const char *text, struct ip_address *address) {
  if (text == NULL || strlen(text) >= 64) return false;
  char copy[64];
  strcpy(copy, text);
  char *slash = strchr(copy, '/');
  if (slash != NULL) *slash = 0;
  bool v6 = strchr(copy, ':') != NULL;
  address->family = v6 ? AF_INET6 : AF_INET;
  address->size = v6 ? 16 : 4;
  unsigned long prefix = address->size * 8u;
  if (slash != NULL) {
    char *end;
    prefix = strtoul(slash + 1, &end, 10);
    if (slash[1] < '0' || slash[1] > '9' || *end != 0 || prefix > address->size * 8u) return false;
  }
  address->prefix = (uint8_t)prefix;
  return inet_pton(address->family, copy, address->bytes) == 1;
}

static bool add_address(struct address_list *list, const struct item *item) {
  return list->count < ADDRESSES_MAX && parse_address(item_string(item), &list->items[list->count++]);
}

static bool set_name(const char **name, const struct item *item) {
  *name = item_string(item);
  return *name != NULL && **name != 0 && strlen(*name) < IFNAMSIZ;
}

static bool apply_item(struct network_request *request, const struct item *item) {
  switch (item->tag) {
    case TAG_OUTER_NAME: return set_name(&request->outer, item);
    case TAG_INNER_NAME: return set_name(&request->inner, item);
    case TAG_TARGET_PID: return item_u32(item, &request->inner_pid) && request->inner_pid <= INT32_MAX;
    case TAG_MTU: return item_u32(item, &request->mtu) && request->mtu >= MTU_MIN && request->mtu <= 65535;
    case TAG_OUTER_ADDRESS: return add_address(&request->outer_addresses, item);
    case TAG_INNER_ADDRESS: return add_address(&request->inner_addresses, item);
    case TAG_GATEWAY: return add_address(&request->gateways, item);
    default: return false;
  }
}

static bool parse(const struct frame *frame, struct network_request *request) {
  struct cursor cursor = {frame->data, frame->data + frame->length};
  struct item item;
  int more;
  while ((more = item_next(&cursor, &item)) == 1) {
    if (!apply_item(request, &item)) return false;
  }
  return more == 0 && request->outer != NULL && request->inner != NULL && request->inner_pid > 0;
}

static int add_addresses(struct netlink *nl, const char *name, const struct address_list *list) {
  int result = 0;
  for (int i = 0; i < list->count && result == 0; i++) result = nl_address_add(nl, name, &list->items[i]);
  return result;
}

/*
 * The outer end may be left over: the kernel destroys the namespace of a dead container, and with it the pair, some
 * time after its last process. Deleting it here is immediate.
 */
static int set_up_outer(struct netlink *nl, const struct network_request *request, const char **step) {
  *step = "delete the old interface";
  int result = nl_link_delete(nl, request->outer);
  if (result != 0 && result != -ENODEV) return result;
  *step = "create the veth pair";
  if ((result = nl_link_add_veth(nl, request->outer, request->inner, request->inner_pid, request->mtu)) != 0) return result;
  *step = "add the outer addresses";
  if ((result = add_addresses(nl, request->outer, &request->outer_addresses)) != 0) return result;
  *step = "set the outer interface up";
  return nl_link_up(nl, request->outer);
}

/* A route needs its gateway on a link that is up, so the routes come last. */
static int set_up_inner(struct netlink *nl, const struct network_request *request, const char **step) {
  *step = "set lo up";
  int result = nl_link_up(nl, "lo");
  if (result != 0) return result;
  *step = "add the inner addresses";
  if ((result = add_addresses(nl, request->inner, &request->inner_addresses)) != 0) return result;
  *step = "set the inner interface up";
  if ((result = nl_link_up(nl, request->inner)) != 0) return result;
  *step = "add the default routes";
  for (int i = 0; i < request->gateways.count && result == 0; i++) {
    result = nl_default_route(nl, request->inner, &request->gateways.items[i]);
  }
  return result;
}

static int enter_network(uint32_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%u/ns/net", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int result = setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
  close(fd);
  return result;
}

/* This process serves one request only, so it can stay in the inner namespace. */
static int set_up(const struct network_request *request, const char **step) {
  struct netlink outer = {.fd = -1}, inner = {.fd = -1};
  *step = "open a netlink socket";
  int result = nl_open(&outer, NETLINK_ROUTE);
  if (result == 0) result = set_up_outer(&outer, request, step);
  if (result == 0) {
    *step = "enter the inner network namespace";
    result = enter_network(request->inner_pid);
  }
  if (result == 0) result = nl_open(&inner, NETLINK_ROUTE);
  if (result == 0) result = set_up_inner(&inner, request, step);
  /* Half a network is worse than none: the caller sees an error and no interface. */
  if (result != 0 && inner.fd >= 0) nl_link_delete(&outer, request->outer);
  if (outer.fd >= 0) close(outer.fd);
  if (inner.fd >= 0) close(inner.fd);
  return result;
}

void serve_network(int conn, const struct frame *frame) {
  struct network_request request = {.mtu = 1500};
  const char *step = "";
  if (!parse(frame, &request)) return frame_error(conn, EINVAL, "network request: malformed or missing item");
  int result = set_up(&request, &step);
  if (result == 0) frame_write(conn, FRAME_OK, NULL, 0);
  else frame_error(conn, -result, "network %s: %s: %s", request.outer, step, strerror(-result));
}
