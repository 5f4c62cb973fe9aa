/*
 * Comparing files of two snapshots, docs/formats/helper-protocol.md, "COMPARE". Runs in the root namespace, on file
 * systems that do not change.
 */
#ifndef COMPARE_H
#define COMPARE_H

#include <linux/fiemap.h>

#include "hob.h"

#define EXTENTS_AT_ONCE 128 /* that the kernel is asked for in one call */

struct byte_range {
  uint64_t begin, end;
};

/* Where the devices below the two file systems differ: ascending, apart. Only if known says so is it all. */
struct device_changes {
  struct byte_range *ranges;
  size_t count, size;
  bool known;
};

/* Extents of one file, read in ascending order. */
struct extents {
  int fd; /* -1: its file system does not tell */
  uint32_t count, at;
  struct fiemap_extent list[EXTENTS_AT_ONCE];
};

/* ---- compare_extents.c ---- */
/* Adds ranges of a frame, u64 begin and u64 length each; none = that was all. -EINVAL unless they follow what is there; -ENOMEM */
int device_changes_add(struct device_changes *changes, const uint8_t *payload, uint32_t length);
/* Bytes from an offset on that both files have in the same unchanged place of their devices; 0 = it has to be read. */
uint64_t same_blocks(struct extents *one, struct extents *other, const struct device_changes *changes, uint64_t offset);

/* ---- compare_content.c ---- */
/*
 * Whether two regular files have the same bytes: 1, 0 or -errno. Holes that both have are not read, nor what lies in the
 * same place of both devices. Says with PROGRESS how many bytes it has read, and takes
 * changes that come meanwhile.
 * @param on_devices whether the files lie on the two devices
 */
int compare_content(int conn, int one, int other, struct device_changes *changes, bool on_devices);

/* ---- compare_attributes.c ---- */
/* Sends the extended attributes that differ, links not followed. 0 or -errno */
int compare_attributes(int conn, const char *one, const char *other);

#endif
