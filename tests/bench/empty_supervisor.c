/* Run a program under a supervisor that has every call carried out at once: what no emulation can undercut.
 *
 *     cc -O2 -static -o empty_supervisor empty_supervisor.c
 *     ./empty_supervisor find / -printf '%s %u\n'
 *
 * Its filter asks for chown and stat calls, as that of root emulation does (seccomp_unotify(2)). chown does nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ASK(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)
#define SET_FLAGS _IOW('!', 4, unsigned long long) /* Linux 6.6: SECCOMP_IOCTL_NOTIF_SET_FLAGS */
#define SYNC_WAKE_UP 1ULL

static int is_chown(int number) {
#ifdef SYS_chown
    if (number == SYS_chown || number == SYS_lchown)
        return 1;
#endif
    return number == SYS_fchown || number == SYS_fchownat;
}

static void supervise(int listener) {
    struct seccomp_notif asked;
    struct seccomp_notif_resp answer;
    for (;;) {
        memset(&asked, 0, sizeof asked);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked)) {
            if (errno == EINTR)
                continue;
            return;
        }
        memset(&answer, 0, sizeof answer);
        answer.id = asked.id;
        answer.flags = is_chown(asked.data.nr) ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

int main(int argc, char **argv) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef SYS_stat
        ASK(SYS_stat), ASK(SYS_lstat), ASK(SYS_chown), ASK(SYS_lchown),
#endif
        ASK(SYS_fstat), ASK(SYS_newfstatat), ASK(SYS_statx), ASK(SYS_fchown), ASK(SYS_fchownat),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    int ready[2], listener;
    if (argc < 2 || pipe2(ready, O_CLOEXEC))
        return 2;
    /* The child shares the table of descriptors until execve(2), which closes the listener in the program. */
    if (!syscall(SYS_clone, CLONE_FILES, 0, 0, 0, 0)) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* before Linux 6.11 NOTIF_RECV waits for ever */
        if (read(ready[0], &listener, sizeof listener) != sizeof listener)
            return 1;
        ioctl(listener, SET_FLAGS, SYNC_WAKE_UP);
        supervise(listener);
        return 0;
    }
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                       SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program);
    if (listener < 0 || write(ready[1], &listener, sizeof listener) != sizeof listener) {
        perror("seccomp");
        return 1;
    }
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 1;
}
