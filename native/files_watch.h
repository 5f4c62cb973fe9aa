/* What files_watch.c (events) and files_watch_tree.c (which directories are watched) share. */
#ifndef FILES_WATCH_H
#define FILES_WATCH_H

#include "files.h"

#define WATCH_MASK (IN_CREATE | IN_MODIFY | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)
#define SCANNED_MAX 1024 /* new names remembered, so that they are not reported twice */

/* One watched directory; path is relative to the top, "" = the top. */
struct watched {
  int number;
  char *path;
};

struct watch {
  struct files *files;
  int inotify;
  dev_t top_device;
  ino_t top_inode;
  int holder;       /* of a single file, the directory that it is in; else -1 */
  const char *only; /* the one name in there that is watched; NULL = all in the top */
  bool recursive, gone, limit_told;
  uint32_t temporary_cookie; /* of a file of ours that is getting its name */
  struct watched *list;
  size_t count, size;
  char *scanned[SCANNED_MAX];
  size_t scanned_count;
  uint8_t events[ENTRIES_SIZE];
  size_t events_length;
};

enum event_kind {
  EVENT_CREATE = 'c',
  EVENT_WRITE = 'w',
  EVENT_REMOVE = 'r',
  EVENT_RENAME = 'n',
  EVENT_CHMOD = 'm',
  EVENT_OVERFLOW = 'o', /* events were lost */
  EVENT_LIMIT = 'l',    /* a new directory is not watched: there are too many */
  EVENT_GONE = 'g',     /* the top is no longer there; the last event */
};

void add_event(struct watch *watch, enum event_kind kind, const char *path);
/*
 * Opens the top. It is not held open: the kernel tells that a directory is gone when nobody has it open any more.
 * -ENOENT if there is another one by now.
 */
int open_top(const struct watch *watch);
/* Opens a directory below the top, through no symbolic link. */
int open_below(const struct watch *watch, const char *path);
/* Watches a directory, given by a descriptor that is taken, and those below. @param report whether what is in it is new */
int watch_directory(struct watch *watch, int dir, const char *path, bool report, int depth);
struct watched *find_watched(struct watch *watch, int number);
void forget_watched(struct watch *watch, struct watched *watched);
/* A directory was moved away: it and all below are watched no more. */
void unwatch_below(struct watch *watch, const char *path);
bool was_scanned(const struct watch *watch, const char *path);
void forget_scanned(struct watch *watch);
/* The path of a name in a directory; the caller frees it. */
char *join_path(const char *path, const char *name);

#endif
