/*
 * hob-boot: /init of the microVM's initramfs.
 *
 * Loads the few modules that find the disks, mounts the images and becomes the init of the root namespace.
 * One static program instead of a shell script: under emulation each fork and exec costs about 0.1 s.
 *
 * Disks, in the order of the VMM's command line (images are read-only erofs):
 *   vda root namespace   vdb volume   vdc pilot   vdd system base   vde platform   vdf languages   vdg boot configuration
 *
 * With the argument "probe" it only reports that user space was reached.
 *
 * Modules are listed, one path a line, in /modules/order; they are loaded by finit_module(2) without options.
 */
#define _GNU_SOURCE
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DISK_WAIT_MS 10000

static void fail(const char *what, const char *object) {
    fprintf(stderr, "hob-boot: %s %s: %s\n", what, object, strerror(errno));
    sync();
    reboot(RB_POWER_OFF);
    _exit(1);
}

static void mount_or_fail(const char *source, const char *target, const char *type, unsigned long flags, const char *options) {
    if (mkdir(target, 0755) != 0 && errno != EEXIST && errno != EROFS) fail("mkdir", target);
    if (mount(source, target, type, flags, options) != 0) fail("mount", target);
}

static void load_modules(const char *order) {
    char line[256];
    FILE *list = fopen(order, "re");
    if (list == NULL) fail("open", order);
    while (fgets(line, sizeof line, list) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        int module = open(line, O_RDONLY | O_CLOEXEC);
        if (module < 0) fail("open", line);
        if (syscall(SYS_finit_module, module, "", 0) != 0 && errno != EEXIST) fail("load", line);
        close(module);
    }
    fclose(list);
}

/* virtio devices are probed asynchronously after their driver is loaded. */
static void wait_for_disk(const char *path) {
    const struct timespec step = {.tv_nsec = 5 * 1000 * 1000};
    for (int waited = 0; access(path, F_OK) != 0; waited += 5) {
        if (waited >= DISK_WAIT_MS) fail("wait for", path);
        nanosleep(&step, NULL);
    }
}

/* The accelerator works: a kernel came up and reached user space. The VMM is started so that a reboot ends it. */
static void probe(void) {
    printf("hob-probe-ok\n");
    fflush(stdout);
    reboot(RB_AUTOBOOT);
    _exit(1);
}

/* Whether QEMU's TCG emulates the processor: its signature as a hypervisor, CPUID leaf 0x40000000, "tcg-cpuid" in QEMU. */
static bool is_emulated(void) {
#if defined(__x86_64__)
    unsigned int eax, signature[3];
    __cpuid(0x40000000, eax, signature[0], signature[1], signature[2]);
    return memcmp(signature, "TCGTCGTCGTCG", sizeof signature) == 0;
#else
    return false;
#endif
}

/*
 * Capabilities that OpenSSL is not to use, OPENSSL_ia32cap(3): SSSE3; BMI1, AVX2 and BMI2. Under TCG its SHA-256 then takes four
 * fifths of the time: vector instructions gain nothing where a program carries them out. That of SHA itself stays.
 */
#define EMULATED_OPENSSL "OPENSSL_ia32cap=~0x20000000000:~0x128"

int main(int argc, char **argv) {
    char *const next[] = {"/pilot/hob-helper", "init", "/usr/local/bin/node", "--jitless", "/pilot/pilot.mjs", NULL};
    char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run", "LANG=C.UTF-8",
                                 "DM_DISABLE_UDEV=1", is_emulated() ? EMULATED_OPENSSL : NULL, NULL};
    if (argc > 1 && strcmp(argv[1], "probe") == 0) probe();
    umask(022);
    mount_or_fail("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
    load_modules("/modules/order");
    wait_for_disk("/dev/vdg");

    mount_or_fail("/dev/vda", "/root", "erofs", MS_RDONLY | MS_NODEV, NULL);
    mount_or_fail("/dev/vdc", "/root/pilot", "erofs", MS_RDONLY | MS_NODEV | MS_NOSUID, NULL);
    mount_or_fail("proc", "/root/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_or_fail("sysfs", "/root/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_or_fail("cgroup2", "/root/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate");
    mount_or_fail("tmpfs", "/root/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64m");
    mount_or_fail("tmpfs", "/root/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=64m");
    mkdir("/root/run/hob", 0700);
    if (mount("/dev", "/root/dev", NULL, MS_MOVE, NULL) != 0) fail("move", "/dev");
    mount_or_fail("devpts", "/root/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");

    /* The programs and modules above are in memory until they are unlinked: nothing refers to them any more. */
    unlink("/init");
    /* switch_root(8): the initramfs cannot be unmounted or pivoted away from, only covered; ramfs-rootfs-initramfs.rst */
    if (chdir("/root") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0) fail("switch to", "/root");
    execve(next[0], next, environment);
    fail("execute", next[0]);
}
