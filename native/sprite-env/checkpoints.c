/* sprite-env checkpoints … */
#include <stdio.h>
#include <string.h>

#include "sprite-env.h"

static const char HELP[] =
    "Usage: sprite-env checkpoints COMMAND\n"
    "\n"
    "  list                      all checkpoints\n"
    "  get ID                    one of them\n"
    "  create [--comment TEXT]   saves all files as they are now\n"
    "  restore ID                puts all files back; every program is ended, this one too\n"
    "\n"
    "Example: sprite-env checkpoints create --comment 'before the upgrade'\n";

int checkpoints_main(int argc, char **argv) {
  struct option options[] = {{.name = "--comment"}, {.name = "--history"}, {.name = NULL}};
  struct arguments arguments;
  parse_arguments(argc - 1, argv + 1, options, &arguments);
  if (arguments.help || arguments.count == 0) return fputs(HELP, arguments.help ? stdout : stderr), arguments.help ? EXIT_DONE : EXIT_USAGE;
  const char *name = arguments.operands[0];
  bool create = strcmp(name, "create") == 0, list = strcmp(name, "list") == 0;
  bool get = strcmp(name, "get") == 0, restore = strcmp(name, "restore") == 0;
  if (!create && !list && !get && !restore) usage_error("checkpoints: no such command: %s", name);
  if (arguments.count != (get || restore ? 2 : 1)) usage_error("checkpoints %s: wrong number of arguments", name);
  struct text target = {0}, json = {0};
  text_add(&target, create ? "/v1/checkpoint" : "/v1/checkpoints");
  if (get || restore) {
    text_add(&target, "/");
    text_add_encoded(&target, arguments.operands[1]);
  }
  if (restore) text_add(&target, "/restore");
  if (list && options[1].count > 0) {
    text_add(&target, "?history=");
    text_add_encoded(&target, last_value(&options[1]));
  }
  if (create) {
    text_add(&json, "{");
    if (options[0].count > 0) {
      text_add(&json, "\"comment\":");
      text_add_json(&json, last_value(&options[0]));
    }
    text_add(&json, "}");
  }
  return api_request(list || get ? "GET" : "POST", target.data, json.data, SHOW);
}
