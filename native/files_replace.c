/*
 * A new content for a file that is seen as a whole or not at all: it is written under another name beside the file and
 * then renamed. Where that would change more than the content, or may not be done, the content is collected in a
 * nameless file and copied at the end:
 * - the file has several names (hard links), or attributes of its own
 * - it belongs to another user, to whom a new file could not be given
 * - the directory cannot be written to, or the file is a mount point, rename(2) EBUSY
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "files.h"

#define COPY_CHUNK (8u << 20) /* between two looks at the client */

/* The file as it is now, opened to be written: that proves the right to. What runs as a program can only be replaced. */
static int look_at_present(struct replacement *r, int *present) {
  *present = -1;
  if (fstatat(r->place.dir, r->place.name, &r->before, AT_SYMLINK_NOFOLLOW) < 0) {
    r->before.st_nlink = 0;
    return errno == ENOENT ? 0 : -errno;
  }
  if (S_ISDIR(r->before.st_mode)) return -EISDIR;
  if (S_ISLNK(r->before.st_mode)) {
    r->before.st_nlink = 0;
    return 0;
  }
  if (!S_ISREG(r->before.st_mode)) return -EINVAL;
  *present = openat(r->place.dir, r->place.name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (*present < 0) return errno == ETXTBSY ? 0 : -errno;
  return fstat(*present, &r->before) < 0 ? -errno : S_ISREG(r->before.st_mode) ? 0 : -EINVAL;
}

static bool must_stay(const struct replacement *r, int present) {
  if (present < 0) return false;
  return r->before.st_nlink > 1 || (geteuid() != 0 && r->before.st_uid != geteuid()) || flistxattr(present, NULL, 0) > 0;
}

/* A nameless file, on the disk if it can be. */
static int open_spool(void) {
  int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) fd = memfd_create("hob-write", MFD_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

static int open_temporary(struct replacement *r) {
  uint64_t number;
  if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number) return -EIO;
  snprintf(r->temporary, sizeof r->temporary, TEMPORARY_PREFIX "%016llx", (unsigned long long)number);
  int fd = openat(r->place.dir, r->temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  return fd < 0 ? -errno : fd;
}

int replacement_begin_at(struct replacement *r, const struct place *place) {
  int present;
  *r = (struct replacement){.place = *place, .fd = -1};
  if (place->directory_wanted || strcmp(place->name, ".") == 0) return -EISDIR;
  int looked = look_at_present(r, &present);
  if (looked < 0) {
    if (present >= 0) close(present);
    return looked;
  }
  r->in_place = must_stay(r, present);
  if (!r->in_place) {
    r->fd = open_temporary(r);
    r->in_place = r->fd < 0 && present >= 0;
  }
  if (r->in_place) r->fd = open_spool();
  if (present >= 0) close(present);
  return r->fd < 0 ? r->fd : 0;
}

int replacement_begin(struct replacement *r, const char *path) {
  struct place place;
  int found = place_of(path, true, &place);
  return found < 0 ? found : replacement_begin_at(r, &place);
}

static int copy_range(struct files *files, int from, int to, off_t at, off_t end) {
  static uint8_t buffer[256 * 1024];
  bool in_kernel = true;
  while (at < end) {
    if (files != NULL && (files->steps = 0, client_has_gone(files))) return -ECANCELED;
    off_t source = at, target = at;
    size_t wanted = end - at > (off_t)COPY_CHUNK ? COPY_CHUNK : (size_t)(end - at);
    ssize_t done = in_kernel ? copy_file_range(from, &source, to, &target, wanted, 0) : -1;
    if (done < 0) {
      if (in_kernel && errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS) return -errno;
      in_kernel = false;
      done = pread(from, buffer, wanted < sizeof buffer ? wanted : sizeof buffer, at);
      if (done > 0) done = pwrite(to, buffer, (size_t)done, at);
      if (done < 0) return -errno;
    }
    if (done == 0) return 0;
    at += done;
  }
  return 0;
}

/* What a read gives is copied, for files that have no size: those of /proc. */
static int copy_stream(struct files *files, int from, int to) {
  static uint8_t buffer[64 * 1024];
  ssize_t got;
  while ((got = read(from, buffer, sizeof buffer)) > 0) {
    if (files != NULL && client_has_gone(files)) return -ECANCELED;
    if (write(to, buffer, (size_t)got) != got) return errno == 0 ? -EIO : -errno;
  }
  return got < 0 ? -errno : 0;
}

/* Holes stay holes: a sparse file may be larger than the disk. */
int copy_content(struct files *files, int from, int to) {
  struct stat info;
  if (fstat(from, &info) < 0) return -errno;
  if (info.st_size == 0) return copy_stream(files, from, to);
  if (ioctl(to, FICLONE, from) == 0) return 0;
  off_t at = 0;
  while (at < info.st_size) {
    off_t data = lseek(from, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    off_t hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
    if (hole < 0) data = at, hole = info.st_size;
    int copied = copy_range(files, from, to, data, hole);
    if (copied < 0) return copied;
    at = hole;
  }
  return ftruncate(to, info.st_size) < 0 ? -errno : 0;
}

/* The present file keeps its identity and takes the content. All of it is there by now; only a crash could halve it. */
static int copy_into_present(struct replacement *r, int mode) {
  int present = openat(r->place.dir, r->place.name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (present < 0) return -errno;
  struct stat info;
  int result = fstat(present, &info) < 0 ? -errno : S_ISREG(info.st_mode) ? 0 : -EINVAL;
  if (result == 0 && (ftruncate(present, 0) < 0 || lseek(r->fd, 0, SEEK_SET) < 0)) result = -errno;
  if (result == 0) result = copy_content(NULL, r->fd, present);
  if (result == 0 && mode >= 0 && fchmod(present, (mode_t)mode) < 0) result = -errno;
  close(present);
  return result;
}

/* Owner, group and mode of the new file before it gets the name. Another group than one's own may be refused. */
static int dress(const struct replacement *r, int mode) {
  bool exists = r->before.st_nlink > 0;
  if (exists && geteuid() == 0 && fchown(r->fd, r->before.st_uid, r->before.st_gid) < 0) return -errno;
  if (exists && geteuid() != 0 && r->before.st_gid != getegid() && fchown(r->fd, (uid_t)-1, r->before.st_gid) < 0 && errno != EPERM) {
    return -errno;
  }
  mode_t wanted = mode >= 0 ? (mode_t)mode : exists ? r->before.st_mode & 07777 : 0644;
  return fchmod(r->fd, wanted) < 0 ? -errno : 0;
}

int replacement_commit(struct replacement *r, int mode, struct stat *after) {
  int result = r->in_place ? copy_into_present(r, mode) : dress(r, mode);
  if (!r->in_place && result == 0 && renameat(r->place.dir, r->temporary, r->place.dir, r->place.name) < 0) {
    result = errno == EBUSY && r->before.st_nlink > 0 ? copy_into_present(r, mode) : -errno;
    if (result == 0) unlinkat(r->place.dir, r->temporary, 0);
  }
  if (result == 0 && fstatat(r->place.dir, r->place.name, after, AT_SYMLINK_NOFOLLOW) < 0) result = -errno;
  if (result < 0) replacement_abort(r);
  else close(r->fd);
  return result;
}

void replacement_abort(struct replacement *r) {
  if (!r->in_place && r->fd >= 0) unlinkat(r->place.dir, r->temporary, 0);
  if (r->fd >= 0) close(r->fd);
  r->fd = -1;
}
