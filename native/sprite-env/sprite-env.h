/*
 * sprite-env: the sprite's own API on the command line, for programs and people inside. A static program: it works
 * whatever the user has removed from the system.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2 };

/* ---- text.c: growing text; running out of memory ends the program ---- */

struct text {
  char *data; /* ends with 0, which `length` does not count; NULL while empty */
  size_t length, size;
};

void text_add_bytes(struct text *text, const char *bytes, size_t length);
void text_add(struct text *text, const char *string);
/* With quotes; RFC 8259 section 7. */
void text_add_json(struct text *text, const char *string);
/* Percent-encoded for a path or a query; RFC 3986 section 2.1. */
void text_add_encoded(struct text *text, const char *string);
/* Value of a member that is a string, in a JSON object without nesting before it; false if there is none. */
bool json_string_member(const char *json, const char *name, struct text *value);

/* ---- http.c ---- */

/* What to do with the body of a good answer. */
enum output { SHOW, SHOW_ERRORS_ONLY };

/*
 * One request to the API. Shows a good answer's body on standard output as it comes, an error's message on standard error.
 * body: JSON, NULL = none. Returns the exit status of the program: refused also if a stream tells of an error.
 */
int api_request(const char *method, const char *target, const char *body, enum output output);
const char *api_socket(void);

/* ---- arguments.c: options in any order between the operands ---- */

struct option {
  const char *name; /* such as "--cmd" */
  bool flag;        /* takes no value */
  const char *values[64];
  int count;
};

struct arguments {
  const char *operands[256];
  int count;
  int own;       /* operands before "--" */
  bool help;
};

/* options: ends with a NULL name. Ends the program with EXIT_USAGE when the arguments make no sense. */
void parse_arguments(int argc, char **argv, struct option *options, struct arguments *arguments);
const char *last_value(const struct option *option);
void __attribute__((noreturn, format(printf, 1, 2))) usage_error(const char *format, ...);

/* ---- one file per subject: argv[0] is the subcommand ---- */

int services_main(int argc, char **argv);
int checkpoints_main(int argc, char **argv);
int tasks_main(int argc, char **argv);
int curl_main(int argc, char **argv);
