/* Sockets of a container's network namespace: what sockets.c, listeners.c and relay.c share. */
#ifndef SOCKETS_H
#define SOCKETS_H

#include "hob.h"

/* One listening TCP socket, as it goes over the wire: 32 bytes, little-endian. */
#define LISTENER_BYTES 32u
#define LISTENERS_MAX 1024u

/* ---- listeners.c ---- */

/* Answers OK and then one LISTENERS frame now and after each change, until the client or the container goes. */
void watch_listeners(int conn, pid_t target, int target_pidfd, uint32_t interval_ms);

/* ---- relay.c ---- */

/*
 * Moves bytes between the client and a connection until both directions have ended, one side breaks, or the container
 * goes. The end of one direction is passed on as such.
 */
void relay(int conn, int peer, int target_pidfd);

#endif
