/* sprite-env services … */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sprite-env.h"

enum { CMD, ARGS, ENV, DIR_, NEEDS, HTTP_PORT, DURATION, NO_STREAM, TIMEOUT, LINES, OPTION_COUNT };

static const char HELP[] =
    "Usage: sprite-env services COMMAND\n"
    "\n"
    "  list                     all services and their states\n"
    "  get NAME                 one of them\n"
    "  create NAME --cmd PROGRAM | create NAME -- PROGRAM [ARGUMENTS]\n"
    "                           defines or replaces a service, starts it, shows its first output\n"
    "    --args A,B             arguments, separated by commas; \\, is a comma in an argument\n"
    "    --env NAME=VALUE,…     variables over the usual ones\n"
    "    --dir DIR              working directory; default /home/sprite\n"
    "    --needs A,B            services that are started before it\n"
    "    --http-port PORT       where the sprite's URL leads; for one service only\n"
    "    --duration 5s          how long its output is shown\n"
    "    --no-stream            do not show it\n"
    "  start NAME [--duration 5s] [--no-stream]\n"
    "  stop NAME [--timeout 10s]\n"
    "                           stays stopped until it is started\n"
    "  restart NAME [--duration 5s] [--no-stream]\n"
    "  signal NAME SIGNAL       such as HUP\n"
    "  logs NAME [--lines N] [--duration 1h]\n"
    "  delete NAME              its log stays: /.sprite/logs/services/NAME.log\n"
    "\n"
    "Example: sprite-env services create web --http-port 3000 -- python3 -m http.server 3000\n";

/* Appends the parts of a list as JSON strings, or as members of an object if they are variables. */
static void add_list(struct text *json, const char *list, bool variables) {
  struct text part = {0};
  for (const char *at = list;; at++) {
    if (*at == '\\' && at[1] == ',') {
      text_add(&part, ",");
      at++;
    } else if (*at != ',' && *at != 0) {
      text_add_bytes(&part, at, 1);
    } else {
      if (json->data[json->length - 1] != '[' && json->data[json->length - 1] != '{') text_add(json, ",");
      text_add(&part, "");
      char *equals = variables ? strchr(part.data, '=') : NULL;
      if (variables && (equals == NULL || equals == part.data)) usage_error("--env: NAME=VALUE expected, not '%s'", part.data);
      if (equals != NULL) *equals = 0;
      text_add_json(json, part.data);
      if (equals != NULL) {
        text_add(json, ":");
        text_add_json(json, equals + 1);
      }
      part.length = 0;
      if (*at == 0) break;
    }
  }
  free(part.data);
}

static void add_lists(struct text *json, const char *member, const struct option *option, bool variables) {
  text_add(json, ",");
  text_add_json(json, member);
  text_add(json, variables ? ":{" : ":[");
  for (int i = 0; i < option->count; i++) {
    if (option->values[i][0] != 0) add_list(json, option->values[i], variables);
  }
  text_add(json, variables ? "}" : "]");
}

static void add_argv(struct text *json, const struct arguments *arguments) {
  text_add(json, ",\"args\":[");
  for (int i = 2; i < arguments->count; i++) {
    if (i > 2) text_add(json, ",");
    text_add_json(json, arguments->operands[i]);
  }
  text_add(json, "]");
}

static void build_definition(struct text *json, const struct option *options, const struct arguments *arguments) {
  bool given = arguments->count > arguments->own;
  if (given == (options[CMD].count > 0)) usage_error("services create: give the program by --cmd, or after --");
  if (given && options[ARGS].count > 0) usage_error("services create: --args does not go with a program after --");
  text_add(json, "{\"cmd\":");
  text_add_json(json, given ? arguments->operands[1] : last_value(&options[CMD]));
  if (given) add_argv(json, arguments);
  else add_lists(json, "args", &options[ARGS], false);
  if (options[ENV].count > 0) add_lists(json, "env", &options[ENV], true);
  add_lists(json, "needs", &options[NEEDS], false);
  if (options[DIR_].count > 0) {
    text_add(json, ",\"dir\":");
    text_add_json(json, last_value(&options[DIR_]));
  }
  const char *port = last_value(&options[HTTP_PORT]);
  if (port != NULL) {
    /* JSON has no number that begins with a zero, and 0 is no port. */
    if (port[0] == 0 || port[0] == '0' || strspn(port, "0123456789") != strlen(port)) usage_error("--http-port: a number expected, not '%s'", port);
    text_add(json, ",\"http_port\":");
    text_add(json, port);
  }
  text_add(json, "}");
}

static void add_query(struct text *target, const char *name, const char *value) {
  if (value == NULL) return;
  text_add(target, strchr(target->data, '?') == NULL ? "?" : "&");
  text_add(target, name);
  text_add(target, "=");
  text_add_encoded(target, value);
}

static int send_signal(const struct arguments *arguments) {
  struct text json = {0};
  text_add(&json, "{\"name\":");
  text_add_json(&json, arguments->operands[0]);
  text_add(&json, ",\"signal\":");
  text_add_json(&json, arguments->operands[1]);
  text_add(&json, "}");
  return api_request("POST", "/v1/services/signal", json.data, SHOW);
}

static const struct command {
  const char *name, *method, *suffix;
  int operands;
} COMMANDS[] = {
    {"list", "GET", NULL, 0},         {"get", "GET", "", 1},           {"create", "PUT", "", 1},
    {"start", "POST", "/start", 1},   {"stop", "POST", "/stop", 1},    {"restart", "POST", "/restart", 1},
    {"signal", "POST", NULL, 2},      {"logs", "GET", "/logs", 1},     {"delete", "DELETE", "", 1},
};

static const struct command *find_command(const char *name) {
  for (size_t i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++) {
    if (strcmp(COMMANDS[i].name, name) == 0) return &COMMANDS[i];
  }
  usage_error("services: no such command: %s", name);
}

int services_main(int argc, char **argv) {
  struct option options[OPTION_COUNT + 1] = {
      [CMD] = {.name = "--cmd"},           [ARGS] = {.name = "--args"},
      [ENV] = {.name = "--env"},           [DIR_] = {.name = "--dir"},
      [NEEDS] = {.name = "--needs"},       [HTTP_PORT] = {.name = "--http-port"},
      [DURATION] = {.name = "--duration"}, [NO_STREAM] = {.name = "--no-stream", .flag = true},
      [TIMEOUT] = {.name = "--timeout"},   [LINES] = {.name = "--lines"},
  };
  struct arguments arguments;
  parse_arguments(argc - 1, argv + 1, options, &arguments);
  if (arguments.help || argc < 2) return fputs(HELP, argc < 2 ? stderr : stdout), argc < 2 ? EXIT_USAGE : EXIT_DONE;
  const char *name = arguments.operands[0] == NULL ? "" : arguments.operands[0];
  const struct command *command = find_command(name);
  memmove(arguments.operands, arguments.operands + 1, sizeof arguments.operands - sizeof arguments.operands[0]);
  arguments.count--;
  arguments.own--;
  bool create = strcmp(name, "create") == 0;
  if (arguments.own != command->operands || (!create && arguments.count != arguments.own)) usage_error("services %s: wrong number of arguments", name);
  if (strcmp(name, "signal") == 0) return send_signal(&arguments);
  struct text target = {0}, json = {0};
  text_add(&target, "/v1/services");
  if (command->suffix != NULL) {
    text_add(&target, "/");
    text_add_encoded(&target, arguments.operands[0]);
    text_add(&target, command->suffix);
  }
  bool quiet = options[NO_STREAM].count > 0;
  add_query(&target, "duration", quiet ? "0" : last_value(&options[DURATION]));
  add_query(&target, "timeout", last_value(&options[TIMEOUT]));
  add_query(&target, "lines", last_value(&options[LINES]));
  if (create) build_definition(&json, options, &arguments);
  return api_request(command->method, target.data, json.data, quiet ? SHOW_ERRORS_ONLY : SHOW);
}
