/* sprite-env: which subject a command line is about. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "sprite-env.h"

static const char HELP[] =
    "Usage: sprite-env COMMAND\n"
    "\n"
    "What this sprite keeps running, saves and stays awake for.\n"
    "\n"
    "  services      programs that are kept running, also after a restart\n"
    "  checkpoints   saved states of all files\n"
    "  tasks         reasons not to fall asleep\n"
    "  info          name and URL of this sprite\n"
    "  curl          any request to the API at /.sprite/api.sock\n"
    "\n"
    "'sprite-env COMMAND --help' says more. Answers are JSON.\n"
    "\n"
    "Example: sprite-env services create web --http-port 3000 -- python3 -m http.server 3000\n";

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_DFL);
  const char *subject = argc < 2 ? "" : argv[1];
  if (strcmp(subject, "services") == 0) return services_main(argc - 1, argv + 1);
  if (strcmp(subject, "checkpoints") == 0) return checkpoints_main(argc - 1, argv + 1);
  if (strcmp(subject, "tasks") == 0) return tasks_main(argc - 1, argv + 1);
  if (strcmp(subject, "curl") == 0) return curl_main(argc - 1, argv + 1);
  if (strcmp(subject, "info") == 0 && argc == 2) return api_request("GET", "/v1/info", NULL, SHOW);
  bool help = strcmp(subject, "--help") == 0 || strcmp(subject, "-h") == 0 || strcmp(subject, "help") == 0;
  if (!help && argc > 1) usage_error("no such command: %s", subject);
  fputs(HELP, help ? stdout : stderr);
  return help ? EXIT_DONE : EXIT_USAGE;
}
