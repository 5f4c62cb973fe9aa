/* Growing text, and as much of JSON as requests and errors need. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sprite-env.h"

void text_add_bytes(struct text *text, const char *bytes, size_t length) {
  if (text->length + length + 1 > text->size) {
    text->size = 2 * (text->length + length + 1);
    text->data = realloc(text->data, text->size);
    if (text->data == NULL) {
      fputs("sprite-env: out of memory\n", stderr);
      exit(EXIT_REFUSED);
    }
  }
  if (length > 0) memcpy(text->data + text->length, bytes, length);
  text->length += length;
  text->data[text->length] = 0;
}

void text_add(struct text *text, const char *string) { text_add_bytes(text, string, strlen(string)); }

void text_add_json(struct text *text, const char *string) {
  text_add(text, "\"");
  for (const char *at = string; *at != 0; at++) {
    unsigned char byte = (unsigned char)*at;
    char escaped[8];
    if (byte == '"' || byte == '\\') snprintf(escaped, sizeof escaped, "\\%c", byte);
    else if (byte < 0x20) snprintf(escaped, sizeof escaped, "\\u%04x", byte);
    else snprintf(escaped, sizeof escaped, "%c", byte);
    text_add(text, escaped);
  }
  text_add(text, "\"");
}

void text_add_encoded(struct text *text, const char *string) {
  static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
  for (const char *at = string; *at != 0; at++) {
    char escaped[4];
    if (strchr(plain, *at) != NULL) snprintf(escaped, sizeof escaped, "%c", *at);
    else snprintf(escaped, sizeof escaped, "%%%02X", (unsigned char)*at);
    text_add(text, escaped);
  }
}

static void add_utf8(struct text *text, unsigned code) {
  char bytes[4];
  size_t length = 0;
  if (code < 0x80) {
    bytes[length++] = (char)code;
  } else if (code < 0x800) {
    bytes[length++] = (char)(0xc0 | code >> 6);
    bytes[length++] = (char)(0x80 | (code & 0x3f));
  } else {
    bytes[length++] = (char)(0xe0 | code >> 12);
    bytes[length++] = (char)(0x80 | (code >> 6 & 0x3f));
    bytes[length++] = (char)(0x80 | (code & 0x3f));
  }
  text_add_bytes(text, bytes, length);
}

/* Reads a string whose opening quote was passed. Returns what follows the closing one, NULL if there is none. */
static const char *read_string(const char *at, struct text *value) {
  for (; *at != 0 && *at != '"'; at++) {
    if (*at != '\\') {
      text_add_bytes(value, at, 1);
      continue;
    }
    static const char named[] = "bfnrt", means[] = "\b\f\n\r\t";
    const char *name;
    unsigned code;
    if (*++at == 0) return NULL;
    if (*at == 'u') {
      if (sscanf(at + 1, "%4x", &code) != 1 || strlen(at) < 5) return NULL;
      add_utf8(value, code);
      at += 4;
    } else if ((name = strchr(named, *at)) != NULL) {
      text_add_bytes(value, &means[name - named], 1);
    } else {
      text_add_bytes(value, at, 1);
    }
  }
  return *at == '"' ? at + 1 : NULL;
}

bool json_string_member(const char *json, const char *name, struct text *value) {
  const char *at = json;
  while ((at = strchr(at, '"')) != NULL) {
    struct text word = {0};
    text_add(&word, "");
    at = read_string(at + 1, &word);
    bool found = at != NULL && strcmp(word.data, name) == 0;
    free(word.data);
    if (at == NULL) return false;
    at += strspn(at, " \t\r\n");
    if (!found || *at != ':') continue;
    at += 1 + strspn(at + 1, " \t\r\n");
    value->length = 0;
    text_add(value, "");
    return *at == '"' && read_string(at + 1, value) != NULL;
  }
  return false;
}
