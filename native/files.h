/*
 * Operations on files inside the container, docs/formats/helper-protocol.md, "FILES". Everything declared here runs in
 * a child that has entered the container and become the user: whatever a path leads to, it is resolved by the kernel in
 * the container's mount namespace, with that user's rights and no others.
 */
#ifndef FILES_H
#define FILES_H

#include <limits.h>
#include <sys/stat.h>

#include "hob.h"

#define FILE_PATH_MAX 32768u       /* longest path in an answer; paths that the kernel takes have at most 4096 bytes */
#define LISTED_MAX 1000u           /* entries that an answer names of what an operation changed */
#define TREE_DEPTH_MAX 2000        /* directories inside each other; each holds a descriptor open */
#define UNSIZED_MAX (64u << 20)    /* of a file whose size is not known beforehand: those of /proc */
#define WATCHES_MAX 8192           /* directories that one request watches */
#define TEMPORARY_PREFIX ".hob-write-"

enum operation {
  OP_READ = 1,
  OP_WRITE = 2,
  OP_LIST = 3,
  OP_DELETE = 4,
  OP_RENAME = 5,
  OP_COPY = 6,
  OP_CHMOD = 7,
  OP_CHOWN = 8,
  OP_MKDIR = 9,
  OP_SYMLINK = 10,
  OP_WATCH = 11,
  OP_INSTALL = 12,
};

enum file_flag {
  FILE_RECURSIVE = 1,
  FILE_PARENTS = 2,    /* make all missing directories above */
  FILE_PARENT = 4,     /* make the one directory above */
  FILE_PRESERVE = 8,   /* copy: owner, mode and times too */
  FILE_ITSELF = 16,    /* list: the directory itself, not what is in it */
  FILE_INFO_ONLY = 32, /* read: no content */
  FILE_ARCHIVE = 64,   /* copy: hard links stay such, sockets and devices too; what cannot be made is told and left out */
  FILE_NO_LINKS = 128, /* no part of the paths may be a symbolic link, but for the last, which is not followed */
};

struct files_request {
  struct exec_request enter; /* target, cgroup and user only */
  uint8_t operation;
  const char *path, *destination, *pattern, *owner, *group;
  const char *root; /* folder of the container that paths (of a copy: the source) begin in and never leave; NULL = its root */
  uint64_t offset, length, suffix;
  bool ranged, has_suffix, has_mode;
  uint32_t mode, flags;
};

/* Number of bytes of entries that are collected before they are sent. */
#define ENTRIES_SIZE (48u * 1024u)

/* One operation under way. */
struct files {
  int conn;
  const struct files_request *request;
  char *path; /* of the entry at hand, relative to the one that the request names; "" = that one itself */
  size_t path_length, path_size;
  uint64_t count, bytes, left_out;
  uint32_t steps;
  const char *failed_on; /* operand that the error is about; NULL = `path` below the request's */
  uint8_t entries[ENTRIES_SIZE];
  size_t entries_length;
};

/* Where a path leads: a directory that is held open, and a name in it that is no symbolic link if links were followed. */
struct place {
  int dir;
  bool directory_wanted; /* the path ended with a slash */
  char name[NAME_MAX + 1];
};

/* ---- files_path.c; each returns 0 or a descriptor, or -errno ---- */
/* openat2(2) without the magic links of /proc: they would lead to what this process has open. */
int open_path(int dir, const char *path, int flags);
/* @param follow whether a symbolic link at the end of the path is followed */
int place_of(const char *path, bool follow, struct place *place);
/* As place_of, for the paths of an operation: with FILE_NO_LINKS none is followed. -ELOOP */
int place_for(const struct files *files, const char *path, bool follow, struct place *place);
/* As place_of in a folder that stands for the root: neither absolute links nor ".." lead out of it. The last part is not followed. */
int place_in(const char *root, const char *path, struct place *place);
/* Opens a directory below dir, through none that is a symbolic link. */
int open_beneath(int dir, const char *path);
int stat_place(const struct place *place, struct stat *info);
/* Makes the directories above the last part of the path: all that are missing, or the last one only. */
int make_parents(const char *path, bool all);
/* Appends a name to the path of the operation; give the returned length to path_leave. -ENOMEM */
int path_enter(struct files *files, const char *name, size_t *before);
void path_leave(struct files *files, size_t before);

/* ---- files_answer.c ---- */
/* Sends bytes, as slowly as the client takes them. Ends the process if the client has gone. */
void send_bytes(int conn, const void *data, size_t length);
void send_frame(int conn, uint8_t type, const void *data, uint32_t length);
/* Adds an entry named by the path of the operation. -ENAMETOOLONG if no frame could hold it. */
int add_entry(struct files *files, const struct stat *info, const char *link_target);
/* As add_entry, for answers that name only the first of what they changed; counts. */
int add_changed(struct files *files, int dir, const char *name);
/* Names what a copy could not make, by its kind; does not count. */
int add_left_out(struct files *files, const struct stat *info);
void send_done(struct files *files, uint32_t mode);
/* To be called once for each entry: ends the process where the client has gone, in the middle of a tree too. */
bool client_has_gone(struct files *files);

/* ---- files_tree.c ---- */
struct visit {
  int dir;          /* directory that holds the entry */
  const char *name; /* in it */
  const struct stat *info;
  int opened; /* leave only: the directory itself */
};
struct visitor {
  /* 0, -errno, or for a directory 1 to leave out what is in it */
  int (*enter)(struct files *files, const struct visit *visit, void **context);
  int (*leave)(struct files *files, const struct visit *visit, void **context);
  bool skip_unreadable;
  void *context;
};
/* Visits an entry and, if it is a directory, all below; symbolic links are not followed. What vanishes meanwhile is left out. */
int walk_tree(struct files *files, int dir, const char *name, struct visitor *visitor);

/* ---- files_replace.c: a file that appears under its name when it is complete ---- */
struct replacement {
  struct place place;
  struct stat before; /* of the present file; st_nlink 0 = there is none */
  int fd;             /* where the content is written to */
  bool in_place;      /* fd is a nameless file elsewhere, whose content is copied into the present one at the end */
  char temporary[NAME_MAX + 1];
};
int replacement_begin(struct replacement *replacement, const char *path);
int replacement_begin_at(struct replacement *replacement, const struct place *place);
/* @param mode permissions to set; -1 = those of the present file, or 0644 */
int replacement_commit(struct replacement *replacement, int mode, struct stat *after);
void replacement_abort(struct replacement *replacement);
/* Copies the rest of one file into another, sharing blocks where the file system can. Returns 0 or -errno. */
int copy_content(struct files *files, int from, int to);

/* ---- files_extended.c ---- */
/* Gives a file the extended attributes of another, and no others, as far as one may and its file system holds them. 0 or -errno */
int take_extended_attributes(int from, int to);

/* ---- files_links.c ---- */
/* Remembers what a file with several names was copied to, by the path of the operation. */
void note_copy(const struct files *files, const struct stat *info, int dir, const char *name);
/* Gives the copy of another name of the file this name. False: there is none, or not any more. @param top of the copy */
bool link_to_copy(const struct place *top, const struct stat *info, int dir, const char *name);

/* ---- files_names.c: users and groups by the container's files, passwd(5) and group(5) ---- */
/* @param text a name, digits, or "+" and digits, which is never a name; NULL = leave as it is. -EINVAL: no such one */
int find_id(const char *file, const char *text, uint32_t *id);

/* ---- files_glob.c ---- */
/* @param path relative; a pattern without a slash is matched with its last part. `*` `?` `[…]` `\`, `**` crosses slashes */
bool glob_matches(const char *pattern, const char *path);

/* Follows no link. */
int chmod_at(int dir, const char *name, mode_t mode);
/* Copies or deletes what a place names, with all that is in it. */
int copy_place(struct files *files, const struct place *from, const struct place *to);
int delete_place(struct files *files, const struct place *place);

/* ---- the operations: 0 or -errno ---- */
int files_read(struct files *files);
int files_write(struct files *files);
int files_list(struct files *files);
int files_delete(struct files *files);
int files_copy(struct files *files);
int files_rename(struct files *files);
int files_chmod(struct files *files);
int files_chown(struct files *files);
int files_mkdir(struct files *files);
int files_symlink(struct files *files);
int files_watch(struct files *files);
int files_install(struct files *files);

#endif
