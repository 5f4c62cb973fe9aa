/* sprite-env curl …: curl(1) itself where it is there, else what this program can do of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sprite-env.h"

static const char HELP[] =
    "Usage: sprite-env curl [OPTIONS OF CURL] /v1/PATH\n"
    "\n"
    "Example: sprite-env curl -X PUT '/v1/services/web?duration=10s' -d '{\"cmd\":\"npm\",\"args\":[\"start\"]}'\n";

static bool is_path(const char *word) { return strncmp(word, "/v1/", 4) == 0; }

static void run_curl(int argc, char **argv) {
  char **words = calloc((size_t)argc + 5, sizeof *words);
  int count = 0;
  if (words == NULL) return;
  words[count++] = "curl";
  words[count++] = "--unix-socket";
  words[count++] = (char *)api_socket();
  words[count++] = "-sS";
  for (int i = 1; i < argc; i++) {
    struct text word = {0};
    if (is_path(argv[i])) text_add(&word, "http://sprite");
    text_add(&word, argv[i]);
    words[count++] = word.data;
  }
  execvp("curl", words);
}

int curl_main(int argc, char **argv) {
  if (argc < 2 || strcmp(argv[1], "--help") == 0) return fputs(HELP, argc < 2 ? stderr : stdout), argc < 2 ? EXIT_USAGE : EXIT_DONE;
  run_curl(argc, argv);
  if (errno != ENOENT) {
    fprintf(stderr, "sprite-env: curl: %s\n", strerror(errno));
    return EXIT_REFUSED;
  }
  const char *method = NULL, *body = NULL, *target = NULL;
  for (int i = 1; i < argc; i++) {
    bool takes_value = strcmp(argv[i], "-X") == 0 || strcmp(argv[i], "-d") == 0 || strcmp(argv[i], "--data") == 0;
    if (takes_value && i + 1 == argc) usage_error("curl: %s needs a value", argv[i]);
    if (strcmp(argv[i], "-X") == 0) method = argv[++i];
    else if (takes_value) body = argv[++i];
    else if (is_path(argv[i])) target = argv[i];
    else if (strcmp(argv[i], "-s") != 0) usage_error("curl: %s needs curl, which is not installed", argv[i]);
  }
  if (target == NULL) usage_error("curl: a path that begins with /v1/ is missing");
  return api_request(method != NULL ? method : body != NULL ? "POST" : "GET", target, body, SHOW);
}
