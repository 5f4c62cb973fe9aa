/*
 * Stands in for `tail -f /dev/null` as the container's child of tini. The real one is a file of the user's, who may
 * remove it; a container whose first process ends could then never be started again, not even to repair it.
 */
#include <unistd.h>

int main(void) {
  for (;;) pause();
}
