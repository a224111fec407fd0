61 steps make the container id of /bundle. The runtime is the process that you start. Init is its
child, which sets up the container from the inside and becomes the program at the end. The place in
config.json that asks for a step stands in brackets.

Limits
   1  The runtime makes the cgroup
      /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice/podman.scope/id and
      puts the container into it. [/linux/cgroupsPath]
      Why: A cgroup counts what a group of processes uses, limits it, and can freeze or kill the
           whole group. No process leaves it by a fork.
      Read: cgroups(7)

Namespaces
   2  The runtime makes init, with new namespaces of these kinds: ipc (queues and shared memory),
      uts (host name), network, pid (processes), cgroup, mount. [/linux/namespaces]
      Why: A namespace gives its processes their own view of one kind of thing. Processes in
           namespaces of their own, with a root file system of their own, are what people call a
           container.
      Read: namespaces(7), clone(2)

The file system
   3  Init makes all mounts slave: new mounts of the host still arrive, and the container's stay
      inside. [/linux/rootfsPropagation]
      Why: The new mount namespace begins as a copy of the host's. The propagation decides whether a
           mount that is made on one side appears on the other.
      Read: mount_namespaces(7)
   4  Init makes /home/user/.local/share/containers/storage/vfs/dir/0123456789abcdef, the image's
      files, a mount of its own. [/root/path]
      Why: Only a mount can become the root, and its options then apply to the container alone.
      Read: mount(2), pivot_root(2)
   5  Init mounts a new tmpfs at /run, with rw, nosuid, nodev, rprivate, tmpcopyup. [/mounts/0]
   6  Init mounts a new tmpfs at /dev, with nosuid, noexec, strictatime, mode=755, size=65536k.
      [/mounts/1]
   7  Init mounts a new tmpfs at /tmp, with rw, nosuid, nodev, rprivate, tmpcopyup. [/mounts/2]
      Why: A tmpfs keeps its files in memory. It begins empty and ends with the container.
      Read: tmpfs(5)
   8  Init mounts a new proc at /proc, with nosuid, nodev, noexec. [/mounts/3]
      Why: Programs such as ps read /proc, and a new one shows the processes of the container's pid
           namespace only.
      Read: proc(5), pid_namespaces(7)
   9  Init mounts a new sysfs at /sys, with ro, nosuid, nodev, noexec. [/mounts/4]
      Why: It shows the kernel's devices. The network devices in it are those of the container's
           namespace.
      Read: sysfs(5), network_namespaces(7)
  10  Init mounts a new mqueue at /dev/mqueue, with nosuid, nodev, noexec. [/mounts/5]
      Why: It shows the POSIX message queues of the container's ipc namespace.
      Read: mq_overview(7)
  11  Init makes the host's
      /home/user/.local/share/containers/storage/vfs-containers/0123456789abcdef/userdata/shm appear
      at /dev/shm, with bind, nosuid, nodev, noexec, rprivate. [/mounts/6]
  12  Init makes the host's
      /run/user/1000/containers/vfs-containers/0123456789abcdef/userdata/.containerenv appear at
      /run/.containerenv, with bind, rprivate. [/mounts/7]
  13  Init makes the host's
      /run/user/1000/containers/vfs-containers/0123456789abcdef/userdata/hostname appear at
      /etc/hostname, with bind, rprivate. [/mounts/8]
  14  Init makes the host's /run/user/1000/containers/vfs-containers/0123456789abcdef/userdata/hosts
      appear at /etc/hosts, with bind, rprivate. [/mounts/9]
      Why: A bind mount shows the same files at a second place. Writing to them changes the host's.
      Read: mount(2), mount(8)
  15  Init mounts a new tmpfs at /run/lock, with rw, nosuid, nodev, rprivate, tmpcopyup.
      [/mounts/10]
      Why: A tmpfs keeps its files in memory. It begins empty and ends with the container.
      Read: tmpfs(5)
  16  Init mounts a new devpts at /dev/pts, with nosuid, noexec, newinstance, ptmxmode=0666,
      mode=0620, gid=5. [/mounts/11]
      Why: Terminals of the container get a numbering of their own, so that it cannot open the
           host's.
      Read: pts(4), pty(7)
  17  Init mounts a new tmpfs at /var/log/journal, with rw, nosuid, nodev, rprivate, tmpcopyup.
      [/mounts/12]
      Why: A tmpfs keeps its files in memory. It begins empty and ends with the container.
      Read: tmpfs(5)
  18  Init mounts a new cgroup at /sys/fs/cgroup, with rw, private. [/mounts/13]
      Why: The program can read its limits and what it uses, and the files show only its own cgroup.
      Read: cgroups(7), cgroup_namespaces(7)
  19  Init makes the host's device appear as /dev/null, character device 1:3. [/linux/devices]
  20  Init makes the host's device appear as /dev/zero, character device 1:5. [/linux/devices]
  21  Init makes the host's device appear as /dev/full, character device 1:7. [/linux/devices]
  22  Init makes the host's device appear as /dev/random, character device 1:8. [/linux/devices]
  23  Init makes the host's device appear as /dev/urandom, character device 1:9. [/linux/devices]
  24  Init makes the host's device appear as /dev/tty, character device 5:0. [/linux/devices]
      Why: Programs expect these nodes. The host's own /dev is not shown, so that the container
           lacks the nodes of its disks. Only root of the host may make a node. Others may show one
           that the host has.
      Read: mknod(2), null(4)
  25  Init makes the symbolic link /dev/fd to /proc/self/fd. [/linux/devices]
  26  Init makes the symbolic link /dev/stdin to /proc/self/fd/0. [/linux/devices]
  27  Init makes the symbolic link /dev/stdout to /proc/self/fd/1. [/linux/devices]
  28  Init makes the symbolic link /dev/stderr to /proc/self/fd/2. [/linux/devices]
  29  Init makes the symbolic link /dev/ptmx to pts/ptmx. [/linux/devices]
      Why: Shells and other programs use these names.
      Read: proc(5), symlink(7)
  30  Init makes the working directory /, unless the image has it. [/process/cwd]
      Why: The program starts there.
      Read: mkdir(2)

Names and settings of the kernel
  31  Init sets the host name 0123456789ab. [/hostname]
      Why: The uts namespace keeps it from the host.
      Read: sethostname(2), uts_namespaces(7)
  32  Init writes '0 0' to /proc/sys/net/ipv4/ping_group_range.
      [/linux/sysctl/net.ipv4.ping_group_range]
      Why: Settings of a namespace are the container's own. Those of the whole machine are refused.
      Read: proc(5)

What is hidden
  33  Init makes /proc/asound read-only. [/linux/readonlyPaths/0]
  34  Init makes /proc/bus read-only. [/linux/readonlyPaths/1]
  35  Init makes /proc/fs read-only. [/linux/readonlyPaths/2]
  36  Init makes /proc/irq read-only. [/linux/readonlyPaths/3]
  37  Init makes /proc/sys read-only. [/linux/readonlyPaths/4]
  38  Init makes /proc/sysrq-trigger read-only. [/linux/readonlyPaths/5]
      Why: Not even root of the container can write there. In /proc and /sys are files that change
           the kernel for everybody. A bind mount of a place on itself has options of its own.
      Read: proc(5), mount_setattr(2)
  39  Init hides /proc/acpi, if this kernel has it. [/linux/maskedPaths/0]
  40  Init hides /proc/kcore, if this kernel has it. [/linux/maskedPaths/1]
  41  Init hides /proc/keys, if this kernel has it. [/linux/maskedPaths/2]
  42  Init hides /proc/latency_stats, if this kernel has it. [/linux/maskedPaths/3]
  43  Init hides /proc/timer_list, if this kernel has it. [/linux/maskedPaths/4]
  44  Init hides /proc/timer_stats, if this kernel has it. [/linux/maskedPaths/5]
  45  Init hides /proc/sched_debug, if this kernel has it. [/linux/maskedPaths/6]
  46  Init hides /proc/scsi, if this kernel has it. [/linux/maskedPaths/7]
  47  Init hides /sys/firmware, if this kernel has it. [/linux/maskedPaths/8]
  48  Init hides /sys/fs/selinux, if this kernel has it. [/linux/maskedPaths/9]
  49  Init hides /sys/dev/block, if this kernel has it. [/linux/maskedPaths/10]
      Why: It tells more of the host than a container should know. An empty directory, or the null
           device, is mounted over it.
      Read: proc(5), null(4)

The change of roots
  50  Init exchanges the roots: the image's files become /, and the host's are detached.
      [/root/path]
      Why: With chroot alone the host's files would still be mounted, and a process with privileges
           gets out of it. After pivot_root there is nothing to get out to.
      Read: pivot_root(2)

The process
  51  Init sets RLIMIT_NOFILE to 20000. The program may raise it up to 20000. [/process/rlimits/0]
  52  Init sets RLIMIT_NPROC to 1048576. The program may raise it up to 1048576.
      [/process/rlimits/1]
      Why: Resource limits are of each process, and its children inherit them.
      Read: getrlimit(2)
  53  Init takes the user and group ids 0:0. [/process/user]
      Why: Until here init was root of the container, because the mounts need it.
      Read: credentials(7)
  54  Init sets the umask 0022. [/process/user/umask]
      Why: These permissions are taken from every new file.
      Read: umask(2)
  55  Init enters the working directory /. [/process/cwd]
      Why: The program begins there. Root of the container tries it first, because the program's
           user may not be allowed to enter it.
      Read: chdir(2)
  56  Init's bounding set becomes: CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL,
      CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_SETFCAP.
      [/process/capabilities/bounding]
  57  Init's effective set becomes: CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL,
      CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_SETFCAP.
      [/process/capabilities/effective]
  58  Init's permitted set becomes: CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL,
      CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_SETFCAP.
      [/process/capabilities/permitted]
      Why: The kernel divides root's power into capabilities. Even root of the container keeps only
           these, and what is not in the bounding set never comes back.
      Read: capabilities(7)

The program
  59  Init prepares the environment: PATH, TERM, container, HOME, container_uuid, HOSTNAME.
      [/process/env]
      Why: The program gets none of the caller's variables.
      Read: environ(7)
  60  Init loads the seccomp filter: SCMP_ACT_ERRNO(38), rules=13:bb2dc97a,
      SECCOMP_FILTER_FLAG_SPEC_ALLOW. [/linux/seccomp]
      Why: The kernel asks the filter at every system call. It is loaded last, because it may deny
           what the set-up needs.
      Read: seccomp(2)
  61  Init becomes the program: true. [/process/args]
      Why: execve keeps the process, its namespaces and its limits, and replaces what runs in it. In
           a pid namespace of its own the program is process 1, and when it ends the kernel ends all
           others in there.
      Read: execve(2), pid_namespaces(7)
