/*
 * Device-mapper through its ioctls: dmsetup(8) would be a program to start for each of them, and without udev it would
 * not make the nodes either. linux/dm-ioctl.h; admin-guide/device-mapper of the kernel's documentation.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "hob.h"

#define CONTROL "/dev/mapper/control"
#define NODES "/dev/mapper"
#define BUFFER_SIZE (64u * 1024u)
#define TARGETS_MAX 8
#define SECTOR 512

enum dm_op { DM_OP_CREATE = 1, DM_OP_RELOAD, DM_OP_SUSPEND, DM_OP_RESUME, DM_OP_REMOVE, DM_OP_MESSAGE, DM_OP_STATUS, DM_OP_LIST, DM_OP_SNAPSHOT, DM_OP_DISCARD };

/* Bits of DM_FLAGS. */
enum { FLAG_NOFLUSH = 1, FLAG_SKIP_LOCKFS = 2, FLAG_READONLY = 4, FLAG_DEFERRED = 8, FLAG_TABLE = 16 };

struct target {
  uint64_t start, sectors;
  char type[DM_MAX_TYPE_NAME];
  const char *parameters;
};

struct dm_request {
  uint32_t op;
  const char *name;
  const char *message;
  const char *path;   /* SNAPSHOT: the mounted file system on the device `origin` */
  const char *origin; /* SNAPSHOT */
  uint32_t flags;
  struct target targets[TARGETS_MAX];
  uint32_t target_count;
  uint32_t range_count; /* DISCARD: in the frame, one item each */
};

/* One ioctl's memory: header and data. */
struct buffer {
  struct dm_ioctl header;
  uint8_t data[BUFFER_SIZE - sizeof(struct dm_ioctl)];
};

static void fill(struct buffer *buffer, const char *name, uint32_t flags) {
  memset(&buffer->header, 0, sizeof buffer->header);
  buffer->header.version[0] = DM_VERSION_MAJOR;
  buffer->header.data_size = sizeof *buffer;
  buffer->header.data_start = sizeof buffer->header;
  buffer->header.flags = flags;
  if (name != NULL) snprintf(buffer->header.name, sizeof buffer->header.name, "%s", name);
}

static int call(int control, unsigned long request, struct buffer *buffer) {
  return ioctl(control, request, buffer) < 0 ? errno : 0;
}

/* u64 first sector, u64 sectors, then the text "TYPE PARAMETERS". */
static bool parse_target(struct dm_request *request, const struct item *item) {
  if (request->target_count == TARGETS_MAX || item->length < 17) return false;
  struct item text = {.length = item->length - 16, .value = item->value + 16};
  const char *words = item_string(&text);
  const char *space = words == NULL ? NULL : strchr(words, ' ');
  struct target *target = &request->targets[request->target_count++];
  size_t type_length = space == NULL ? (words == NULL ? 0 : strlen(words)) : (size_t)(space - words);
  if (type_length == 0 || type_length >= sizeof target->type) return false;
  target->start = get_u64(item->value);
  target->sectors = get_u64(item->value + 8);
  memcpy(target->type, words, type_length);
  target->parameters = space == NULL ? "" : space + 1;
  return true;
}

/* u64 first byte, u64 bytes: whole sectors, as BLKDISCARD asks. */
static bool parse_range(uint64_t range[2], const struct item *item) {
  if (item->length != 16) return false;
  range[0] = get_u64(item->value);
  range[1] = get_u64(item->value + 8);
  return range[1] != 0 && (range[0] | range[1]) % SECTOR == 0;
}

static bool add_range(struct dm_request *request, const struct item *item) {
  uint64_t range[2];
  request->range_count++;
  return parse_range(range, item);
}

/* A name becomes a file below /dev/mapper. */
static bool is_name(const char *name) {
  return name != NULL && name[0] != 0 && name[0] != '.' && strlen(name) < DM_NAME_LEN && strchr(name, '/') == NULL;
}

static bool apply_item(struct dm_request *request, const struct item *item) {
  switch (item->tag) {
    case TAG_DM_OP: return item_u32(item, &request->op);
    case TAG_DM_NAME: return is_name(request->name = item_string(item));
    case TAG_DM_TARGET: return parse_target(request, item);
    case TAG_DM_MESSAGE: return (request->message = item_string(item)) != NULL;
    case TAG_DM_FLAGS: return item_u32(item, &request->flags);
    case TAG_DM_ORIGIN: return is_name(request->origin = item_string(item));
    case TAG_DM_RANGE: return add_range(request, item);
    case TAG_PATH: return (request->path = item_string(item)) != NULL;
    default: return false;
  }
}

static bool parse(const struct frame *frame, struct dm_request *request) {
  struct cursor cursor = {frame->data, frame->data + frame->length};
  struct item item;
  int more;
  while ((more = item_next(&cursor, &item)) == 1) {
    if (!apply_item(request, &item)) return false;
  }
  if (more < 0) return false;
  bool has_table = request->target_count > 0;
  switch (request->op) {
    case DM_OP_LIST: return true;
    case DM_OP_CREATE:
    case DM_OP_RELOAD: return request->name != NULL && has_table;
    case DM_OP_MESSAGE: return request->name != NULL && request->message != NULL;
    case DM_OP_SNAPSHOT: return request->name != NULL && request->message != NULL && request->origin != NULL && request->path != NULL;
    case DM_OP_SUSPEND:
    case DM_OP_RESUME:
    case DM_OP_REMOVE:
    case DM_OP_STATUS: return request->name != NULL;
    case DM_OP_DISCARD: return request->name != NULL && request->range_count > 0;
    default: return false;
  }
}

static uint32_t suspend_flags(uint32_t flags) {
  return DM_SUSPEND_FLAG | (flags & FLAG_NOFLUSH ? DM_NOFLUSH_FLAG : 0) | (flags & FLAG_SKIP_LOCKFS ? DM_SKIP_LOCKFS_FLAG : 0);
}

static int suspend_device(int control, struct buffer *buffer, const char *name, uint32_t flags) {
  fill(buffer, name, suspend_flags(flags));
  return call(control, DM_DEV_SUSPEND, buffer);
}

/* Without the suspend flag the same ioctl resumes, and takes a loaded table into use. */
static int resume_device(int control, struct buffer *buffer, const char *name) {
  fill(buffer, name, 0);
  return call(control, DM_DEV_SUSPEND, buffer);
}

static int load_table(int control, struct buffer *buffer, const struct dm_request *request) {
  fill(buffer, request->name, request->flags & FLAG_READONLY ? DM_READONLY_FLAG : 0);
  uint8_t *at = buffer->data;
  const uint8_t *end = buffer->data + sizeof buffer->data;
  for (uint32_t i = 0; i < request->target_count; i++) {
    const struct target *target = &request->targets[i];
    size_t text = strlen(target->parameters) + 1;
    size_t size = (sizeof(struct dm_target_spec) + text + 7) & ~(size_t)7;
    if (size > (size_t)(end - at)) return E2BIG;
    struct dm_target_spec spec = {.sector_start = target->start, .length = target->sectors, .next = (uint32_t)size};
    memcpy(spec.target_type, target->type, sizeof spec.target_type);
    memset(at, 0, size);
    memcpy(at, &spec, sizeof spec);
    memcpy(at + sizeof spec, target->parameters, text);
    at += size;
  }
  buffer->header.target_count = request->target_count;
  return call(control, DM_TABLE_LOAD, buffer);
}

static void node_path(char *path, size_t size, const char *name) { snprintf(path, size, "%s/%s", NODES, name); }

/* The node appears under its name complete, whatever was there before: nobody else makes nodes here. */
static int make_node(const char *name, uint64_t device) {
  char path[256], new_path[272];
  node_path(path, sizeof path, name);
  snprintf(new_path, sizeof new_path, "%s/.%s.new", NODES, name);
  unlink(new_path);
  if (mknod(new_path, S_IFBLK | 0600, makedev(major(device), minor(device))) < 0) return errno;
  if (rename(new_path, path) == 0) return 0;
  int err = errno;
  unlink(new_path);
  return err;
}

static int remove_device(int control, struct buffer *buffer, const char *name, uint32_t flags) {
  fill(buffer, name, flags & FLAG_DEFERRED ? DM_DEFERRED_REMOVE : 0);
  int err = call(control, DM_DEV_REMOVE, buffer);
  if (err != 0 && err != ENXIO) return err;
  char path[256];
  node_path(path, sizeof path, name);
  unlink(path);
  return err;
}

/* A device that is to be removed by its last user has lost its node already. */
static void restore_node(int control, struct buffer *buffer, const char *name) {
  fill(buffer, name, 0);
  if (call(control, DM_DEV_STATUS, buffer) == 0) make_node(name, buffer->header.dev);
}

/* All or nothing: a device without a table would be in the way of the next attempt. */
static int create_device(int control, struct buffer *buffer, const struct dm_request *request) {
  fill(buffer, request->name, 0);
  int err = call(control, DM_DEV_CREATE, buffer);
  if (err == EBUSY) {
    restore_node(control, buffer, request->name);
    return EEXIST;
  }
  if (err != 0) return err;
  uint64_t device = buffer->header.dev;
  err = load_table(control, buffer, request);
  if (err == 0) err = resume_device(control, buffer, request->name);
  if (err == 0) err = make_node(request->name, device);
  if (err != 0) remove_device(control, buffer, request->name, 0);
  return err;
}

/* The new table must not wait for what the old one cannot finish: a reload is also how a device is cut off. */
static int reload_device(int control, struct buffer *buffer, const struct dm_request *request) {
  int err = load_table(control, buffer, request);
  if (err == 0) err = suspend_device(control, buffer, request->name, request->flags);
  if (err != 0) return err;
  return resume_device(control, buffer, request->name);
}

static int send_message(int control, struct buffer *buffer, const char *name, const char *text) {
  fill(buffer, name, 0);
  struct dm_target_msg message = {.sector = 0};
  size_t length = strlen(text) + 1;
  if (sizeof message + length > sizeof buffer->data) return E2BIG;
  memcpy(buffer->data, &message, sizeof message);
  memcpy(buffer->data + sizeof message, text, length);
  return call(control, DM_TARGET_MSG, buffer);
}

/* ---- answers ---- */

struct text {
  size_t length;
  char bytes[SESSION_FRAME_MAX];
};

static void __attribute__((format(printf, 2, 3))) add(struct text *text, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text->bytes + text->length, sizeof text->bytes - text->length, format, arguments);
  va_end(arguments);
  if (length > 0 && (size_t)length < sizeof text->bytes - text->length) text->length += (size_t)length;
}

/* "open=N suspended=0|1 readonly=0|1 device=MAJOR:MINOR", then one line per target. */
static int status_text(int control, struct buffer *buffer, const struct dm_request *request, struct text *text) {
  fill(buffer, request->name, (request->flags & FLAG_TABLE ? DM_STATUS_TABLE_FLAG : 0) | (request->flags & FLAG_NOFLUSH ? DM_NOFLUSH_FLAG : 0));
  int err = call(control, DM_TABLE_STATUS, buffer);
  if (err != 0) return err;
  const struct dm_ioctl *header = &buffer->header;
  if (header->flags & DM_BUFFER_FULL_FLAG) return E2BIG;
  add(text, "open=%d suspended=%d readonly=%d device=%u:%u\n", header->open_count, (header->flags & DM_SUSPEND_FLAG) != 0,
      (header->flags & DM_READONLY_FLAG) != 0, major(header->dev), minor(header->dev));
  size_t at = header->data_start;
  for (uint32_t i = 0; i < header->target_count && at + sizeof(struct dm_target_spec) <= sizeof *buffer; i++) {
    struct dm_target_spec spec;
    memcpy(&spec, (uint8_t *)buffer + at, sizeof spec);
    const char *parameters = (const char *)buffer + at + sizeof spec;
    add(text, "%llu %llu %s %s\n", (unsigned long long)spec.sector_start, (unsigned long long)spec.length, spec.target_type, parameters);
    at = header->data_start + spec.next;
  }
  return 0;
}

static int list_text(int control, struct buffer *buffer, struct text *text) {
  fill(buffer, NULL, 0);
  int err = call(control, DM_LIST_DEVICES, buffer);
  if (err != 0) return err;
  if (buffer->header.flags & DM_BUFFER_FULL_FLAG) return E2BIG;
  for (size_t at = buffer->header.data_start;;) {
    struct dm_name_list entry;
    memcpy(&entry, (uint8_t *)buffer + at, sizeof entry);
    if (entry.dev == 0) return 0;
    add(text, "%s\n", (const char *)buffer + at + offsetof(struct dm_name_list, name));
    if (entry.next == 0) return 0;
    at += entry.next;
  }
}

static uint64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/*
 * A thin snapshot of a mounted file system. What is dirty is written before, while its writers still run; the second
 * time takes what they dirtied during the first. Then the file system is frozen and its device suspended, which the
 * kernel asks for ("you must suspend it before creating the snapshot to avoid corruption", thin-provisioning.rst), and
 * both are undone whatever the message gave. It all happens here so that no fault of the pilot can prolong it.
 */
static int snapshot(int control, struct buffer *buffer, const struct dm_request *request, struct text *text) {
  int fd = open(request->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  int err = syncfs(fd) < 0 || syncfs(fd) < 0 ? errno : 0;
  uint64_t start = now_us();
  if (err == 0) err = ioctl(fd, FIFREEZE, 0) < 0 ? errno : 0;
  if (err == 0) {
    err = suspend_device(control, buffer, request->origin, FLAG_SKIP_LOCKFS);
    if (err == 0) {
      err = send_message(control, buffer, request->name, request->message);
      int resumed = resume_device(control, buffer, request->origin);
      if (err == 0) err = resumed;
    }
    int thawed = ioctl(fd, FITHAW, 0) < 0 ? errno : 0;
    if (err == 0) err = thawed;
  }
  add(text, "%llu", (unsigned long long)(now_us() - start));
  close(fd);
  return err;
}

/*
 * These ranges hold nothing any more: what lies below the device gets their space back. One after the other: the pool does not
 * get to what others ask of it while it works at one.
 */
static int discard_ranges(const char *name, const struct frame *frame) {
  char path[256];
  node_path(path, sizeof path, name);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  struct cursor cursor = {frame->data, frame->data + frame->length};
  struct item item;
  int err = 0;
  while (err == 0 && item_next(&cursor, &item) == 1) {
    uint64_t range[2];
    if (item.tag == TAG_DM_RANGE && parse_range(range, &item) && ioctl(fd, BLKDISCARD, range) < 0) err = errno;
  }
  close(fd);
  return err;
}

static int perform(int control, struct buffer *buffer, const struct dm_request *request, const struct frame *frame, struct text *text) {
  switch (request->op) {
    case DM_OP_CREATE: return create_device(control, buffer, request);
    case DM_OP_RELOAD: return reload_device(control, buffer, request);
    case DM_OP_SUSPEND: return suspend_device(control, buffer, request->name, request->flags);
    case DM_OP_RESUME: return resume_device(control, buffer, request->name);
    case DM_OP_REMOVE: return remove_device(control, buffer, request->name, request->flags);
    case DM_OP_MESSAGE: return send_message(control, buffer, request->name, request->message);
    case DM_OP_STATUS: return status_text(control, buffer, request, text);
    case DM_OP_LIST: return list_text(control, buffer, text);
    case DM_OP_DISCARD: return discard_ranges(request->name, frame);
    default: return snapshot(control, buffer, request, text);
  }
}

void serve_dm(int conn, const struct frame *frame) {
  static const char *const names[] = {"", "create", "reload", "suspend", "resume", "remove", "send a message to", "read the status of", "list", "take a snapshot in", "discard"};
  struct dm_request request = {0};
  if (!parse(frame, &request)) return frame_error(conn, EINVAL, "device-mapper request: malformed, or an item missing");
  int control = open(CONTROL, O_RDWR | O_CLOEXEC);
  if (control < 0) return frame_error(conn, errno, "open %s: %s", CONTROL, strerror(errno));
  struct buffer *buffer = calloc(1, sizeof *buffer);
  struct text *text = calloc(1, sizeof *text);
  int err = buffer == NULL || text == NULL ? ENOMEM : perform(control, buffer, &request, frame, text);
  if (err == 0) frame_write(conn, FRAME_OK, text->bytes, (uint32_t)text->length);
  else frame_error(conn, err, "device-mapper: %s %s: %s", names[request.op], request.name == NULL ? "devices" : request.name, strerror(err));
  free(text);
  free(buffer);
  close(control);
}
