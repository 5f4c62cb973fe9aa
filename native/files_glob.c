/*
 * Patterns of file names, glob(7): `*` `?` `[…]` and `\`, and `**` for any number of directories. In time proportional
 * to the lengths of both, whatever the pattern: only the last star is ever tried again.
 */
#include <string.h>

#include "files.h"

/* One bracket expression at pattern ("[" included). Returns what follows it, or NULL if it is not closed. */
static const char *match_bracket(const char *pattern, unsigned char c, bool *matched) {
  const unsigned char *at = (const unsigned char *)pattern + 1;
  bool inverted = *at == '!' || *at == '^', found = false;
  if (inverted) at++;
  for (bool first = true; *at != ']' || first; first = false) {
    if (*at == '\\' && at[1] != 0) at++;
    if (*at == 0) return NULL;
    unsigned char from = *at++, to = from;
    if (*at == '-' && at[1] != ']' && at[1] != 0) {
      to = at[1];
      at += 2;
    }
    if (c >= from && c <= to) found = true;
  }
  *matched = found != inverted && c != '/';
  return (const char *)at + 1;
}

/* Matches one character of text. Returns the pattern behind it, or NULL. */
static const char *match_one(const char *pattern, char c) {
  bool matched = false;
  if (*pattern == '?') return c == '/' ? NULL : pattern + 1;
  if (*pattern == '[') {
    const char *behind = match_bracket(pattern, (unsigned char)c, &matched);
    if (behind != NULL) return matched ? behind : NULL;
  }
  if (*pattern == '\\' && pattern[1] != 0) pattern++;
  return *pattern != 0 && *pattern == c ? pattern + 1 : NULL;
}

/* A star remembers where to go on: behind it in the pattern, and one character further in the text each time. */
struct star {
  const char *pattern, *text;
};

static bool try_again(struct star *star, bool crosses, const char **pattern, const char **text) {
  if (star->pattern == NULL || *star->text == 0 || (!crosses && *star->text == '/')) return false;
  *pattern = star->pattern;
  *text = ++star->text;
  return true;
}

static bool matches(const char *pattern, const char *text) {
  struct star star = {0}, stars = {0};
  for (;;) {
    const char *behind;
    if (pattern[0] == '*' && pattern[1] == '*') {
      /* "a/" + "**" + "/b" also matches a/b: the slash behind the stars belongs to them. */
      pattern += pattern[2] == '/' ? 3 : 2;
      stars = (struct star){.pattern = pattern, .text = text};
      star.pattern = NULL;
    } else if (pattern[0] == '*') {
      star = (struct star){.pattern = ++pattern, .text = text};
    } else if (*pattern == 0 && *text == 0) {
      return true;
    } else if (*text != 0 && (behind = match_one(pattern, *text)) != NULL) {
      pattern = behind;
      text++;
    } else if (!try_again(&star, false, &pattern, &text)) {
      star.pattern = NULL;
      if (!try_again(&stars, true, &pattern, &text)) return false;
    }
  }
}

bool glob_matches(const char *pattern, const char *path) {
  const char *slash = strchr(pattern, '/') == NULL && strstr(pattern, "**") == NULL ? strrchr(path, '/') : NULL;
  return matches(pattern, slash == NULL ? path : slash + 1);
}
