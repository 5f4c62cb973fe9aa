/* Requests over netlink(7), each with its acknowledgement; of rtnetlink(7) the few that a container's network needs. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "hob.h"

#define ANSWER_TIMEOUT_S 5

int nl_open(struct netlink *nl, int protocol) {
  struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
  nl->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
  nl->sequence = 0;
  if (nl->fd < 0) return -errno;
  setsockopt(nl->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  return 0;
}

/* Appends zeroed, aligned room for length bytes. The requests here are far smaller than the buffer. */
void *nl_extend(struct nl_buffer *buffer, uint32_t length) {
  uint8_t *place = buffer->bytes + buffer->length;
  buffer->length += NLMSG_ALIGN(length);
  memset(place, 0, NLMSG_ALIGN(length));
  return place;
}

void nl_begin(struct nl_buffer *buffer, uint16_t type, uint16_t flags) {
  buffer->length = 0;
  struct nlmsghdr *header = nl_extend(buffer, sizeof *header);
  header->nlmsg_type = type;
  header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
}

struct rtattr *nl_put(struct nl_buffer *buffer, uint16_t type, const void *data, uint32_t length) {
  struct rtattr *attribute = nl_extend(buffer, (uint32_t)RTA_LENGTH(length));
  attribute->rta_type = type;
  attribute->rta_len = (uint16_t)RTA_LENGTH(length);
  if (length > 0) memcpy(RTA_DATA(attribute), data, length);
  return attribute;
}

void nl_put_text(struct nl_buffer *buffer, uint16_t type, const char *text) {
  nl_put(buffer, type, text, (uint32_t)strlen(text) + 1);
}

static void put_number(struct nl_buffer *buffer, uint16_t type, uint32_t value) { nl_put(buffer, type, &value, sizeof value); }

/* Closes an attribute that contains all that was put since. */
void nl_end_nested(struct nl_buffer *buffer, struct rtattr *attribute) {
  attribute->rta_len = (uint16_t)(buffer->bytes + buffer->length - (uint8_t *)attribute);
}

int nl_request(struct netlink *nl, struct nl_buffer *buffer, nl_reader *read_answer, void *context) {
  struct nlmsghdr *header = (struct nlmsghdr *)buffer->bytes;
  header->nlmsg_len = buffer->length;
  header->nlmsg_seq = ++nl->sequence;
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  if (sendto(nl->fd, buffer->bytes, buffer->length, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0) return -errno;
  for (;;) {
    uint8_t answer[4096] __attribute__((aligned(8)));
    ssize_t length = recv(nl->fd, answer, sizeof answer, 0);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return errno == EAGAIN ? -ETIMEDOUT : -errno;
    const struct nlmsghdr *got = (const struct nlmsghdr *)answer;
    if (!NLMSG_OK(got, (size_t)length) || got->nlmsg_seq != nl->sequence) continue;
    if (got->nlmsg_type != NLMSG_ERROR) {
      if (read_answer != NULL) read_answer(got, context);
      continue;
    }
    return ((const struct nlmsgerr *)NLMSG_DATA(got))->error;
  }
}

/* Creates both ends at once; the inner one appears directly in the namespace of inner_pid (0 = this one). veth(4). */
int nl_link_add_veth(struct netlink *nl, const char *outer, const char *inner, uint32_t inner_pid, uint32_t mtu) {
  struct nl_buffer buffer;
  nl_begin(&buffer, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  nl_extend(&buffer, sizeof(struct ifinfomsg));
  nl_put_text(&buffer, IFLA_IFNAME, outer);
  put_number(&buffer, IFLA_MTU, mtu);
  struct rtattr *info = nl_put(&buffer, IFLA_LINKINFO, NULL, 0);
  nl_put_text(&buffer, IFLA_INFO_KIND, "veth");
  struct rtattr *data = nl_put(&buffer, IFLA_INFO_DATA, NULL, 0);
  struct rtattr *peer = nl_put(&buffer, VETH_INFO_PEER, NULL, 0);
  nl_extend(&buffer, sizeof(struct ifinfomsg));
  nl_put_text(&buffer, IFLA_IFNAME, inner);
  put_number(&buffer, IFLA_MTU, mtu);
  if (inner_pid != 0) put_number(&buffer, IFLA_NET_NS_PID, inner_pid);
  nl_end_nested(&buffer, peer);
  nl_end_nested(&buffer, data);
  nl_end_nested(&buffer, info);
  return nl_request(nl, &buffer, NULL, NULL);
}

int nl_link_delete(struct netlink *nl, const char *name) {
  struct nl_buffer buffer;
  nl_begin(&buffer, RTM_DELLINK, 0);
  nl_extend(&buffer, sizeof(struct ifinfomsg));
  nl_put_text(&buffer, IFLA_IFNAME, name);
  return nl_request(nl, &buffer, NULL, NULL);
}

int nl_link_up(struct netlink *nl, const char *name) {
  struct nl_buffer buffer;
  nl_begin(&buffer, RTM_NEWLINK, 0);
  struct ifinfomsg *link = nl_extend(&buffer, sizeof *link);
  link->ifi_flags = IFF_UP;
  link->ifi_change = IFF_UP;
  nl_put_text(&buffer, IFLA_IFNAME, name);
  return nl_request(nl, &buffer, NULL, NULL);
}

/* IFA_F_NODAD: without it an IPv6 address is unusable for about a second while duplicates are looked for. RFC 4862, 5.4. */
int nl_address_add(struct netlink *nl, const char *name, const struct ip_address *address) {
  struct nl_buffer buffer;
  nl_begin(&buffer, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
  struct ifaddrmsg *message = nl_extend(&buffer, sizeof *message);
  message->ifa_family = address->family;
  message->ifa_prefixlen = address->prefix;
  message->ifa_index = if_nametoindex(name);
  if (message->ifa_index == 0) return -errno;
  if (address->family == AF_INET6) put_number(&buffer, IFA_FLAGS, IFA_F_NODAD);
  nl_put(&buffer, IFA_LOCAL, address->bytes, address->size);
  nl_put(&buffer, IFA_ADDRESS, address->bytes, address->size);
  return nl_request(nl, &buffer, NULL, NULL);
}

int nl_default_route(struct netlink *nl, const char *name, const struct ip_address *gateway) {
  struct nl_buffer buffer;
  nl_begin(&buffer, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
  struct rtmsg *route = nl_extend(&buffer, sizeof *route);
  route->rtm_family = gateway->family;
  route->rtm_table = RT_TABLE_MAIN;
  route->rtm_protocol = RTPROT_STATIC;
  route->rtm_scope = RT_SCOPE_UNIVERSE;
  route->rtm_type = RTN_UNICAST;
  uint32_t index = if_nametoindex(name);
  if (index == 0) return -errno;
  nl_put(&buffer, RTA_GATEWAY, gateway->bytes, gateway->size);
  put_number(&buffer, RTA_OIF, index);
  return nl_request(nl, &buffer, NULL, NULL);
}
