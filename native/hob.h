/*
 * hob-helper: the resident native helper of the pilot.
 * The wire format is described in docs/formats/helper-protocol.md; the numbers here are the same.
 */
#ifndef HOB_H
#define HOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* Limits. Bytes unless the name says otherwise. */
#define FRAME_MAX (1024u * 1024u)         /* payload of a request frame */
#define SESSION_FRAME_MAX (64u * 1024u)   /* payload of every other frame, both ways */
#define FRAME_HEADER 5u                   /* u32 length, u8 type */
#define STDIN_WINDOW (256u * 1024u)       /* standard input that may be under way unconsumed */
#define OUTPUT_PIPE_SIZE (256 * 1024)     /* standard output that a process may write ahead */
#define STRINGS_MAX 8192u                 /* arguments, and as many variables, of one exec */
#define GROUPS_MAX 256                    /* supplementary groups of one exec */
#define GROUP_FILE_MAX (1024 * 1024)      /* part of /etc/group that is read */
#define SUPERVISORS_MAX 1024              /* connections served at a time */
#define REQUEST_TIMEOUT_MS 10000          /* for the request frame, and for entering a container */
#define KILL_GRACE_MS 5000                /* SIGHUP to SIGKILL after the client has gone */

enum request_type {
  REQ_EXEC = 1,
  REQ_ENTROPY = 2,
  REQ_SETTIME = 3,
  REQ_SYNC = 4,
  REQ_FREEZE = 5,
  REQ_THAW = 6,
  REQ_IDMAP_MOUNT = 7,
  REQ_NETWORK = 8,
  REQ_KILL_CGROUP = 9,
  REQ_DM = 10,
  REQ_UNMOUNT = 15,
  REQ_MOVE_MOUNT = 16,
  REQ_NBD = 13,
  REQ_FILES = 11,
  REQ_SOCKETS = 12,
  REQ_COMPARE = 17,
};

enum client_frame {
  FRAME_STDIN = 32,
  FRAME_STDIN_EOF = 33,
  FRAME_RESIZE = 34,
  FRAME_SIGNAL = 35,
  FRAME_RELEASE = 36,
  FRAME_END = 37,
  FRAME_CHANGES = 38,
  FRAME_CONTENT = 39,
  FRAME_ATTRIBUTES = 40,
};

enum server_frame {
  FRAME_OK = 64,
  FRAME_ERROR = 65,
  FRAME_STARTED = 66,
  FRAME_STDOUT = 67,
  FRAME_STDERR = 68,
  FRAME_EXIT = 69,
  FRAME_WINDOW = 70,
  FRAME_FILE_INFO = 80,
  FRAME_ENTRIES = 81,
  FRAME_DONE = 82,
  FRAME_EVENTS = 83,
  FRAME_FILE_ERROR = 84,
  FRAME_LISTENERS = 100,
  FRAME_PROGRESS = 110,
  FRAME_ATTRIBUTE = 111,
};

enum tag {
  TAG_ARG = 1,
  TAG_ENV = 2,
  TAG_CWD = 3,
  TAG_UID = 4,
  TAG_GID = 5,
  TAG_USER = 6,
  TAG_WINSIZE = 7,
  TAG_TARGET_PID = 8,
  TAG_CGROUP = 9,
  TAG_SECCOMP = 10,
  TAG_NO_NEW_PRIVS = 11,
  TAG_FILE = 12,
  TAG_BYTES = 20,
  TAG_UNIX_MS = 21,
  TAG_PATH = 22,
  TAG_TIMEOUT_MS = 23,
  TAG_FSTYPE = 30,
  TAG_SOURCE = 31,
  TAG_OPTION = 32,
  TAG_ATTRIBUTE = 33,
  TAG_USERNS = 34,
  TAG_ID_BASE = 35,
  TAG_ID_COUNT = 36,
  TAG_OUTER_NAME = 40,
  TAG_INNER_NAME = 41,
  TAG_MTU = 42,
  TAG_OUTER_ADDRESS = 43,
  TAG_INNER_ADDRESS = 44,
  TAG_GATEWAY = 45,
  TAG_DM_OP = 50,
  TAG_DM_NAME = 51,
  TAG_DM_TARGET = 52,
  TAG_DM_MESSAGE = 53,
  TAG_DM_FLAGS = 54,
  TAG_DM_ORIGIN = 55,
  TAG_DM_RANGE = 57,
  TAG_LAZY = 56,
  TAG_NBD_ACTION = 110,
  TAG_NBD_INDEX = 111,
  TAG_NBD_SIZE = 112,
  TAG_NBD_SOCKET = 113,
  TAG_OPERATION = 70,
  TAG_DESTINATION = 71,
  TAG_OFFSET = 72,
  TAG_LENGTH = 73,
  TAG_SUFFIX = 74,
  TAG_MODE = 75,
  TAG_FILE_FLAGS = 76,
  TAG_PATTERN = 77,
  TAG_OWNER = 78,
  TAG_GROUP = 79,
  TAG_ROOT_DIRECTORY = 80,
  TAG_INTERVAL_MS = 100,
  TAG_ENDPOINT = 101,
  TAG_BOUNDING_SET = 140,
};

#define EXIT_FLAG_CONTAINER_GONE 1
/* Bit of FILE_FLAGS in CONTENT: both files lie on the devices that CHANGES is about. */
#define COMPARE_ON_DEVICES 1u

/* A frame as read; data is one allocation of length + 1 bytes, the last of which is 0. */
struct frame {
  uint8_t type;
  uint32_t length;
  uint8_t *data;
};

struct cursor {
  const uint8_t *at;
  const uint8_t *end;
};

/* One tag-length-value item; value points into the frame. */
struct item {
  uint8_t tag;
  uint32_t length;
  const uint8_t *value;
};

/* ---- frame.c ---- */
uint16_t get_u16(const uint8_t *p);
uint32_t get_u32(const uint8_t *p);
uint64_t get_u64(const uint8_t *p);
void put_u16(uint8_t *p, uint16_t value);
void put_u32(uint8_t *p, uint32_t value);
void put_u64(uint8_t *p, uint64_t value);
int64_t now_ms(void); /* CLOCK_MONOTONIC */

/* Reads one frame. Returns 1, 0 at a clean end of the stream, or -errno (EPROTO, ETIMEDOUT, EMSGSIZE, ...). */
int frame_read(int fd, struct frame *frame, uint32_t length_max, int timeout_ms);
/* Writes one frame completely. Returns 0 or -errno. */
int frame_write(int fd, uint8_t type, const void *data, uint32_t length);
/* Writes an ERROR frame: errno and text. */
void frame_error(int fd, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Next item: 1, 0 at the end, -EPROTO. */
int item_next(struct cursor *cursor, struct item *item);
/* The value as a string: NULL unless it ends with its only 0 byte. */
const char *item_string(const struct item *item);
bool item_u32(const struct item *item, uint32_t *value);
bool item_u64(const struct item *item, uint64_t *value);

/* ---- exec requests ---- */
struct exec_request {
  const char **argv; /* NULL-terminated; the strings point into the frame */
  const char **env;
  uint32_t argc, envc;
  const char *file; /* executable; argv[0] where it is not given */
  const char *cwd;
  const char *user; /* for the supplementary groups; empty = none */
  const char *cgroup;
  const char *seccomp;
  uint32_t uid, gid;
  uint32_t target_pid; /* 0 = stay in this namespace */
  bool tty;
  uint16_t cols, rows;
  bool no_new_privs;
  uint64_t bounding_set; /* capabilities that execve may still give, capabilities(7) */
};

/* What the child needs and the supervisor prepared. */
struct exec_plan {
  int target_pidfd; /* -1 without a target */
  int namespaces;   /* CLONE_NEW* flags to enter besides the pid namespace */
  int status_fd;    /* SOCK_SEQPACKET to the supervisor */
  struct sock_filter *filter;
  unsigned short filter_length;
  struct rlimit limits[RLIM_NLIMITS];
  int limit_count; /* 0 = keep the helper's own limits */
};

/* Status message of the child: ready (err 0, file descriptors attached) or the step that failed. */
struct child_status {
  int32_t err;
  char step[96];
};

/* exec_request.c */
int exec_request_parse(const struct frame *frame, struct exec_request *request, const char **why);
void exec_request_free(struct exec_request *request);
/* session.c: serves one exec from the parsed frame to the EXIT frame. */
void serve_exec(int conn, const struct frame *frame);
/* What a child does once it is forked into the container's pid namespace and cgroup; it never returns. */
struct child_main {
  void (*run)(const struct exec_request *request, const struct exec_plan *plan, void *context);
  void *context;
};

/* enter.c: all of them run in the child. Enters the namespaces and becomes the user; ends the child where that fails. */
void enter_container(const struct exec_request *request, const struct exec_plan *plan);
/* Tells the supervisor that the child is ready (err 0, with descriptors if it passes some), or what failed. */
void send_status(int fd, int err, const char *step, const int *fds, size_t fd_count);
void enter_and_exec(const struct exec_request *request, const struct exec_plan *plan, void *context) __attribute__((noreturn));
/*
 * launch.c: what launch_child gives the supervisor. For a TTY, output is the master and slave keeps it from hanging up.
 * A child of a request without arguments (argc 0) has no streams: all but pid and pidfd are -1.
 */
struct child {
  pid_t pid;
  int pidfd;
  int target_pidfd;
  int input;  /* write end, or the master */
  int output; /* read end, or the master */
  int errors; /* read end, or -1 */
  int slave;  /* TTY only, else -1 */
};
int launch_child(const struct exec_request *request, const struct child_main *main, struct child *child, char *why, size_t why_size);
/* groups.c: ids of the groups of which user is a member, from text in the format of group(5). */
int groups_of_user(const char *text, size_t length, const char *user, gid_t *groups, int groups_max);
int groups_read(const char *path, const char *user, gid_t *groups, int groups_max);

/* ---- one-shot requests; each answers OK or ERROR on conn ---- */
void serve_entropy(int conn, const struct frame *frame);
void serve_settime(int conn, const struct frame *frame);
void serve_sync(int conn);
void serve_freeze(int conn, const struct frame *frame);
void serve_thaw(int conn, const struct frame *frame);
void serve_kill_cgroup(int conn, const struct frame *frame);
void serve_idmap_mount(int conn, const struct frame *frame);
void serve_network(int conn, const struct frame *frame);
void serve_dm(int conn, const struct frame *frame);
void serve_unmount(int conn, const struct frame *frame);
void serve_move_mount(int conn, const struct frame *frame);
void serve_nbd(int conn, const struct frame *frame);
/* files_request.c: one operation on files inside the container. */
void serve_files(int conn, const struct frame *frame);
/* compare.c, sockets.c; they last as long as their connection */
void serve_compare(int conn);
void serve_sockets(int conn, const struct frame *frame);

/* ---- netlink.c ---- */
struct netlink {
  int fd;
  uint32_t sequence;
};
struct nl_buffer {
  uint32_t length;
  uint8_t bytes[1024] __attribute__((aligned(8)));
};
struct ip_address {
  uint8_t family; /* AF_INET or AF_INET6 */
  uint8_t prefix;
  uint8_t size; /* of bytes, 4 or 16 */
  uint8_t bytes[16];
};
/* Called with each message of an answer before its acknowledgement. */
struct nlmsghdr;
struct rtattr;
typedef void nl_reader(const struct nlmsghdr *message, void *context);
int nl_open(struct netlink *nl, int protocol);
/* Building a request: its header, room, attributes; nested ones are closed. */
void nl_begin(struct nl_buffer *buffer, uint16_t type, uint16_t flags);
void *nl_extend(struct nl_buffer *buffer, uint32_t length);
struct rtattr *nl_put(struct nl_buffer *buffer, uint16_t type, const void *data, uint32_t length);
void nl_put_text(struct nl_buffer *buffer, uint16_t type, const char *text);
void nl_end_nested(struct nl_buffer *buffer, struct rtattr *attribute);
/* Sends the request and waits for its acknowledgement. Returns 0 or -errno. */
int nl_request(struct netlink *nl, struct nl_buffer *buffer, nl_reader *read_answer, void *context);
int nl_link_add_veth(struct netlink *nl, const char *outer, const char *inner, uint32_t inner_pid, uint32_t mtu);
int nl_link_delete(struct netlink *nl, const char *name);
int nl_link_up(struct netlink *nl, const char *name);
int nl_address_add(struct netlink *nl, const char *name, const struct ip_address *address);
int nl_default_route(struct netlink *nl, const char *name, const struct ip_address *gateway);

/* ---- the two long-running subcommands ---- */
int run_serve(const char *socket_path);
int run_init(char **command);

#endif
