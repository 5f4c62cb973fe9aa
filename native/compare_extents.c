/* Where the bytes of a file lie on its device, fiemap (Documentation/filesystems/fiemap.rst). */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "compare.h"

#define RANGE_SIZE 16u
#define RANGES_MAX (1u << 20)

/* All other flags say that the bytes are not those of the blocks, or that the place is not known. */
#define HARMLESS (FIEMAP_EXTENT_LAST | FIEMAP_EXTENT_MERGED | FIEMAP_EXTENT_SHARED)

static bool make_room(struct device_changes *changes, size_t more) {
  if (changes->count + more <= changes->size) return true;
  size_t size = (changes->count + more) * 2;
  struct byte_range *larger = realloc(changes->ranges, size * sizeof *larger);
  if (larger == NULL) return false;
  changes->ranges = larger;
  changes->size = size;
  return true;
}

int device_changes_add(struct device_changes *changes, const uint8_t *payload, uint32_t length) {
  size_t more = length / RANGE_SIZE;
  if (length == 0) return changes->known = true, 0;
  if (changes->known || length % RANGE_SIZE != 0 || changes->count + more > RANGES_MAX) return -EINVAL;
  if (!make_room(changes, more)) return -ENOMEM;
  uint64_t end = changes->count == 0 ? 0 : changes->ranges[changes->count - 1].end;
  for (const uint8_t *at = payload; at < payload + more * RANGE_SIZE; at += RANGE_SIZE) {
    uint64_t begin = get_u64(at), size = get_u64(at + 8);
    if (begin < end || size == 0 || size > UINT64_MAX - begin) return -EINVAL;
    end = begin + size;
    changes->ranges[changes->count++] = (struct byte_range){begin, end};
  }
  return 0;
}

/* How many bytes from `begin` on have not changed, at most `length`. */
static uint64_t unchanged(const struct device_changes *changes, uint64_t begin, uint64_t length) {
  size_t low = 0, high = changes->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (changes->ranges[middle].end <= begin) low = middle + 1;
    else high = middle;
  }
  if (low == changes->count) return length;
  uint64_t next = changes->ranges[low].begin;
  return next <= begin ? 0 : next - begin < length ? next - begin : length;
}

static bool fetch(struct extents *extents, uint64_t offset) {
  struct {
    struct fiemap head;
    struct fiemap_extent list[EXTENTS_AT_ONCE];
  } map = {.head = {.fm_start = offset, .fm_length = FIEMAP_MAX_OFFSET - offset, .fm_extent_count = EXTENTS_AT_ONCE}};
  extents->count = extents->at = 0;
  if (extents->fd < 0) return false;
  if (ioctl(extents->fd, FS_IOC_FIEMAP, &map) < 0) return extents->fd = -1, false;
  extents->count = map.head.fm_mapped_extents;
  memcpy(extents->list, map.list, sizeof map.list);
  return extents->count > 0;
}

static uint64_t end_of(const struct fiemap_extent *extent) { return extent->fe_logical + extent->fe_length; }

/* The extent that an offset lies in, if its bytes are those of its blocks. Offsets only grow from call to call. */
static const struct fiemap_extent *extent_at(struct extents *extents, uint64_t offset) {
  for (int attempt = 0; attempt < 2; attempt++) {
    while (extents->at < extents->count && end_of(&extents->list[extents->at]) <= offset) extents->at++;
    if (extents->at < extents->count) {
      const struct fiemap_extent *extent = &extents->list[extents->at];
      return extent->fe_logical <= offset && (extent->fe_flags & ~HARMLESS) == 0 ? extent : NULL;
    }
    if (attempt == 1 || !fetch(extents, offset)) return NULL;
  }
  return NULL;
}

uint64_t same_blocks(struct extents *one, struct extents *other, const struct device_changes *changes, uint64_t offset) {
  if (!changes->known) return 0;
  const struct fiemap_extent *a = extent_at(one, offset), *b = extent_at(other, offset);
  if (a == NULL || b == NULL) return 0;
  uint64_t place = a->fe_physical + (offset - a->fe_logical);
  if (place != b->fe_physical + (offset - b->fe_logical)) return 0;
  uint64_t end = end_of(a) < end_of(b) ? end_of(a) : end_of(b);
  return unchanged(changes, place, end - offset);
}
