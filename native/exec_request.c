/* Decodes an EXEC frame. The result points into the frame. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hob.h"

static bool push_string(const char **list, uint32_t *count, const struct item *item) {
  const char *text = item_string(item);
  if (text == NULL || *count >= STRINGS_MAX) return false;
  list[(*count)++] = text;
  return true;
}

static bool set_string(const char **field, const struct item *item) {
  *field = item_string(item);
  return *field != NULL;
}

static bool set_window_size(struct exec_request *request, const struct item *item) {
  if (item->length != 4) return false;
  request->tty = true;
  request->cols = get_u16(item->value);
  request->rows = get_u16(item->value + 2);
  return true;
}

static bool set_flag(bool *flag, const struct item *item) {
  if (item->length != 1) return false;
  *flag = item->value[0] != 0;
  return true;
}

static bool apply_item(struct exec_request *request, const struct item *item) {
  switch (item->tag) {
    case TAG_ARG: return push_string(request->argv, &request->argc, item);
    case TAG_ENV: return push_string(request->env, &request->envc, item);
    case TAG_FILE: return set_string(&request->file, item);
    case TAG_CWD: return set_string(&request->cwd, item);
    case TAG_USER: return set_string(&request->user, item);
    case TAG_CGROUP: return set_string(&request->cgroup, item);
    case TAG_SECCOMP: return set_string(&request->seccomp, item);
    case TAG_UID: return item_u32(item, &request->uid);
    case TAG_GID: return item_u32(item, &request->gid);
    case TAG_TARGET_PID: return item_u32(item, &request->target_pid);
    case TAG_WINSIZE: return set_window_size(request, item);
    case TAG_BOUNDING_SET: return item_u64(item, &request->bounding_set);
    case TAG_NO_NEW_PRIVS: return set_flag(&request->no_new_privs, item);
    default: return false;
  }
}

static const char *check(const struct exec_request *request) {
  if (request->argc == 0) return "no argument";
  if (request->cwd == NULL || request->cwd[0] != '/') return "the directory is not absolute";
  if (request->uid == UINT32_MAX || request->gid == UINT32_MAX) return "the user or group is missing";
  if (request->target_pid > INT32_MAX) return "the target is not a process id";
  return NULL;
}

int exec_request_parse(const struct frame *frame, struct exec_request *request, const char **why) {
  *request = (struct exec_request){.user = "", .cgroup = "", .seccomp = "", .uid = UINT32_MAX, .gid = UINT32_MAX, .bounding_set = UINT64_MAX};
  request->argv = calloc(STRINGS_MAX + 1, sizeof *request->argv);
  request->env = calloc(STRINGS_MAX + 1, sizeof *request->env);
  *why = "out of memory";
  if (request->argv == NULL || request->env == NULL) return -ENOMEM;
  struct cursor cursor = {frame->data, frame->data + frame->length};
  struct item item;
  int more;
  *why = "malformed item";
  while ((more = item_next(&cursor, &item)) == 1) {
    if (!apply_item(request, &item)) return -EPROTO;
  }
  if (more < 0) return more;
  if (request->file == NULL) request->file = request->argv[0];
  *why = check(request);
  return *why == NULL ? 0 : -EINVAL;
}

void exec_request_free(struct exec_request *request) {
  free(request->argv);
  free(request->env);
}
