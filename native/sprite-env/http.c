/* HTTP/1.1 (RFC 9112) over the API's unix socket: one request, one answer, with a length, in chunks, or up to the end. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sprite-env.h"

#define SOCKET "/.sprite/api.sock"
#define HEAD_MAX (64 * 1024)
#define ERROR_BODY_MAX (64 * 1024)
/* A line that tells of an error is shorter; of others no more is kept, for a body without lines may be of any size. */
#define STREAM_LINE_MAX (64 * 1024)

/* The socket of another place, for tests. */
const char *api_socket(void) {
  const char *path = getenv("SPRITE_API_SOCKET");
  return path != NULL && path[0] != 0 ? path : SOCKET;
}

struct answer {
  int fd;
  int status;
  bool chunked;
  long long left; /* of the body, or of the chunk; -1 = up to the end of the connection */
  bool ended;
  char buffer[16 * 1024];
  size_t start, end; /* what is in the buffer and was not used */
};

static void __attribute__((noreturn)) fail(const char *what) {
  fprintf(stderr, "sprite-env: %s: %s\n", api_socket(), what);
  exit(EXIT_REFUSED);
}

static int connect_api(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(api_socket()) >= sizeof address.sun_path) fail("the path is too long");
  strcpy(address.sun_path, api_socket());
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail(strerror(errno));
  return fd;
}

static void send_request(int fd, const char *method, const char *target, const char *body) {
  struct text request = {0};
  char length[64];
  snprintf(length, sizeof length, "Content-Length: %zu\r\n", body == NULL ? 0 : strlen(body));
  const char *const parts[] = {method, " ", target, " HTTP/1.1\r\nHost: sprite\r\nConnection: close\r\nAccept: */*\r\n",
                               body == NULL ? "" : "Content-Type: application/json\r\n",
                               body == NULL ? "" : length, "\r\n", body == NULL ? "" : body};
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) text_add(&request, parts[i]);
  for (size_t sent = 0; sent < request.length;) {
    ssize_t written = send(fd, request.data + sent, request.length - sent, MSG_NOSIGNAL);
    /* The server may answer without having read everything, and close: its answer is there to be read. */
    if (written < 0 && (errno == EPIPE || errno == ECONNRESET)) break;
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(strerror(errno));
    sent += (size_t)written;
  }
  free(request.data);
}

/* Makes sure that something is in the buffer. Returns false at the end of the connection. */
static bool fill(struct answer *answer) {
  if (answer->start < answer->end) return true;
  ssize_t got;
  while ((got = read(answer->fd, answer->buffer, sizeof answer->buffer)) < 0 && errno == EINTR) continue;
  if (got < 0) fail(strerror(errno));
  answer->start = 0;
  answer->end = (size_t)got;
  return got > 0;
}

/* One line without its end, of at most HEAD_MAX bytes. */
static void read_line(struct answer *answer, struct text *line) {
  line->length = 0;
  text_add(line, "");
  for (;;) {
    if (!fill(answer)) fail("the answer ended early");
    char byte = answer->buffer[answer->start++];
    if (byte == '\n') break;
    text_add_bytes(line, &byte, 1);
    if (line->length > HEAD_MAX) fail("a line of the answer is too long");
  }
  if (line->length > 0 && line->data[line->length - 1] == '\r') line->data[--line->length] = 0;
}

/* A number that begins a line, with nothing behind it but blanks or the extension of a chunk; -1 for anything else. */
static long long read_number(const char *text, int base) {
  char *end;
  text += strspn(text, " \t");
  errno = 0;
  long long number = strtoll(text, &end, base);
  bool digits = end != text && strchr("+-", text[0]) == NULL && (base != 16 || strncasecmp(text, "0x", 2) != 0);
  end += strspn(end, " \t");
  return digits && errno == 0 && (*end == 0 || (base == 16 && *end == ';')) ? number : -1;
}

static void read_head(struct answer *answer) {
  struct text line = {0};
  read_line(answer, &line);
  if (sscanf(line.data, "HTTP/1.%*c %3d", &answer->status) != 1) fail("the answer is not HTTP");
  answer->left = -1;
  for (int count = 0; read_line(answer, &line), line.length > 0; count++) {
    if (count > 100) fail("the answer has too many headers");
    bool sized = strncasecmp(line.data, "content-length:", 15) == 0;
    if (sized && (answer->left = read_number(line.data + 15, 10)) < 0) fail("the answer's length is not a number");
    if (strncasecmp(line.data, "transfer-encoding:", 18) == 0 && strcasestr(line.data + 18, "chunked") != NULL) answer->chunked = true;
  }
  if (answer->chunked) answer->left = 0;
  else if (answer->status == 204 || answer->left == 0) answer->ended = true;
  free(line.data);
}

/* Goes to the next chunk when the one before is used up. */
static void next_chunk(struct answer *answer, bool first) {
  struct text line = {0};
  if (!first) read_line(answer, &line);
  read_line(answer, &line);
  answer->left = read_number(line.data, 16);
  if (answer->left < 0) fail("a chunk of the answer has no length");
  if (answer->left == 0) answer->ended = true;
  free(line.data);
}

/* Some bytes of the body, which stay valid until the next call; 0 at its end. */
static size_t read_body(struct answer *answer, const char **bytes, bool *first) {
  if (answer->chunked && answer->left == 0 && !answer->ended) next_chunk(answer, *first);
  *first = false;
  if (answer->ended) return 0;
  if (!fill(answer)) {
    if (answer->left >= 0) fail("the answer ended early");
    return 0;
  }
  size_t length = answer->end - answer->start;
  if (answer->left >= 0 && (long long)length > answer->left) length = (size_t)answer->left;
  *bytes = answer->buffer + answer->start;
  answer->start += length;
  if (answer->left >= 0) answer->left -= (long long)length;
  if (!answer->chunked && answer->left == 0) answer->ended = true;
  return length;
}

static int show_error(struct answer *answer) {
  struct text body = {0}, message = {0}, hint = {0};
  const char *bytes;
  size_t length;
  bool first = true;
  text_add(&body, "");
  while ((length = read_body(answer, &bytes, &first)) > 0) {
    if (body.length < ERROR_BODY_MAX) text_add_bytes(&body, bytes, length);
  }
  bool known = json_string_member(body.data, "message", &message);
  if (known) fprintf(stderr, "sprite-env: %s\n", message.data);
  else fprintf(stderr, "sprite-env: the API answered with status %d\n", answer->status);
  if (json_string_member(body.data, "hint", &hint)) fprintf(stderr, "hint: %s\n", hint.data);
  free(body.data);
  free(message.data);
  free(hint.data);
  return EXIT_REFUSED;
}

/* A whole line of a stream. Returns whether it tells of an error. */
static bool take_line(const struct text *line, enum output output) {
  struct text type = {0}, data = {0};
  bool error = json_string_member(line->data, "type", &type) && strcmp(type.data, "error") == 0;
  if (error && output == SHOW_ERRORS_ONLY && json_string_member(line->data, "data", &data)) fprintf(stderr, "sprite-env: %s\n", data.data);
  free(type.data);
  free(data.data);
  return error;
}

static int show_body(struct answer *answer, enum output output) {
  struct text line = {0};
  const char *bytes;
  size_t length;
  bool first = true, error = false, at_start = true;
  while ((length = read_body(answer, &bytes, &first)) > 0) {
    if (output == SHOW && (fwrite(bytes, 1, length, stdout) != length || fflush(stdout) != 0)) return EXIT_REFUSED;
    at_start = bytes[length - 1] == '\n';
    for (size_t i = 0; i < length; i++) {
      if (bytes[i] != '\n') {
        if (line.length < STREAM_LINE_MAX) text_add_bytes(&line, &bytes[i], 1);
      } else if (line.length > 0) {
        error |= take_line(&line, output);
        line.length = 0;
      }
    }
  }
  if (output == SHOW && !at_start) putchar('\n');
  free(line.data);
  return error ? EXIT_REFUSED : EXIT_DONE;
}

int api_request(const char *method, const char *target, const char *body, enum output output) {
  static struct answer answer;
  answer = (struct answer){.fd = connect_api()};
  send_request(answer.fd, method, target, body);
  read_head(&answer);
  int status = answer.status >= 200 && answer.status < 300 ? show_body(&answer, output) : show_error(&answer);
  close(answer.fd);
  return status;
}
