/* Entry point: hob-helper init CMD… | hob-helper serve SOCKET */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hob.h"

/* The rest relies on 0, 1 and 2 being open: a pipe or socket that took their place would be overwritten. */
static void open_standard_fds(void) {
  int fd;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= 2);
  if (fd > 2) close(fd);
}

int main(int argc, char **argv) {
  open_standard_fds();
  if (argc == 3 && strcmp(argv[1], "serve") == 0) return run_serve(argv[2]);
  if (argc >= 3 && strcmp(argv[1], "init") == 0) return run_init(argv + 2);
  fprintf(stderr, "usage: hob-helper serve SOCKET\n       hob-helper init COMMAND [ARGUMENT]...\n");
  return 2;
}
