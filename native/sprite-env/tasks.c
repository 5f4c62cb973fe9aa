/* sprite-env tasks … */
#include <stdio.h>
#include <string.h>

#include "sprite-env.h"

static const char HELP[] =
    "Usage: sprite-env tasks COMMAND\n"
    "\n"
    "A task keeps the sprite awake until it expires, after an hour at most, or is deleted.\n"
    "\n"
    "  list\n"
    "  get NAME\n"
    "  create NAME [--expire 1h]   a new one\n"
    "  update NAME [--expire 1h]   renews it, or makes it\n"
    "  delete NAME\n"
    "\n"
    "Example: sprite-env tasks create build --expire 20m\n";

static const char *const METHODS[][2] = {{"list", "GET"}, {"get", "GET"}, {"create", "POST"}, {"update", "PUT"}, {"delete", "DELETE"}};

static const char *method_of(const char *name) {
  for (size_t i = 0; i < sizeof METHODS / sizeof METHODS[0]; i++) {
    if (strcmp(METHODS[i][0], name) == 0) return METHODS[i][1];
  }
  usage_error("tasks: no such command: %s", name);
}

int tasks_main(int argc, char **argv) {
  struct option options[] = {{.name = "--expire"}, {.name = NULL}};
  struct arguments arguments;
  parse_arguments(argc - 1, argv + 1, options, &arguments);
  if (arguments.help || arguments.count == 0) return fputs(HELP, arguments.help ? stdout : stderr), arguments.help ? EXIT_DONE : EXIT_USAGE;
  const char *name = arguments.operands[0], *method = method_of(name);
  if (arguments.count != (strcmp(name, "list") == 0 ? 1 : 2)) usage_error("tasks %s: wrong number of arguments", name);
  bool create = strcmp(method, "POST") == 0, update = strcmp(method, "PUT") == 0;
  struct text target = {0}, json = {0};
  text_add(&target, "/v1/tasks");
  if (arguments.count == 2 && !create) {
    text_add(&target, "/");
    text_add_encoded(&target, arguments.operands[1]);
  }
  if (create || update) {
    text_add(&json, "{\"name\":");
    text_add_json(&json, arguments.operands[1]);
    text_add(&json, ",\"expire\":");
    text_add_json(&json, options[0].count > 0 ? last_value(&options[0]) : "1h");
    text_add(&json, "}");
  }
  return api_request(method, target.data, json.data, SHOW);
}
