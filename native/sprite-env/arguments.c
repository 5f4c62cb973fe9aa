/* Command lines: long options with values, in any order, `--name value` or `--name=value`. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sprite-env.h"

void usage_error(const char *format, ...) {
  va_list values;
  va_start(values, format);
  fputs("sprite-env: ", stderr);
  vfprintf(stderr, format, values);
  fputs("\nsprite-env --help explains its commands\n", stderr);
  va_end(values);
  exit(EXIT_USAGE);
}

static struct option *find_option(struct option *options, const char *word, size_t length) {
  for (struct option *option = options; option->name != NULL; option++) {
    if (strlen(option->name) == length && strncmp(option->name, word, length) == 0) return option;
  }
  usage_error("no such option: %.*s", (int)length, word);
}

static void add_operand(struct arguments *arguments, const char *word) {
  if (arguments->count == (int)(sizeof arguments->operands / sizeof arguments->operands[0])) usage_error("too many arguments");
  arguments->operands[arguments->count++] = word;
}

/* Returns how many words it took. */
static int take_option(struct option *options, int argc, char **argv) {
  size_t length = strcspn(argv[0], "=");
  struct option *option = find_option(options, argv[0], length);
  bool inlined = argv[0][length] == '=';
  if (option->flag && inlined) usage_error("%s takes no value", option->name);
  if (!option->flag && !inlined && argc < 2) usage_error("%s needs a value", option->name);
  if (option->count == (int)(sizeof option->values / sizeof option->values[0])) usage_error("%s is given too often", option->name);
  option->values[option->count++] = option->flag ? "" : inlined ? argv[0] + length + 1 : argv[1];
  return option->flag || inlined ? 1 : 2;
}

void parse_arguments(int argc, char **argv, struct option *options, struct arguments *arguments) {
  *arguments = (struct arguments){.own = -1};
  int at = 0;
  while (at < argc) {
    const char *word = argv[at];
    if (strcmp(word, "--") == 0) {
      arguments->own = arguments->count;
      while (++at < argc) add_operand(arguments, argv[at]);
    } else if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
      arguments->help = true;
      at++;
    } else if (word[0] == '-' && word[1] != 0) {
      at += take_option(options, argc - at, argv + at);
    } else {
      add_operand(arguments, word);
      at++;
    }
  }
  if (arguments->own < 0) arguments->own = arguments->count;
}

const char *last_value(const struct option *option) { return option->count == 0 ? NULL : option->values[option->count - 1]; }
