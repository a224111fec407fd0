54 steps make the container id of /bundle. The runtime is the process that you start. Init is its
child, which sets up the container from the inside and becomes the program at the end. The place in
config.json that asks for a step stands in brackets.

Limits
   1  The runtime makes the cgroup
      /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope/id and puts
      the container into it. [/linux/cgroupsPath]
      Why: A cgroup counts what a group of processes uses, limits it, and can freeze or kill the
           whole group. No process leaves it by a fork.
      Read: cgroups(7)

Namespaces
   2  The runtime makes init, with new namespaces of these kinds: user (ids), ipc (queues and shared
      memory), uts (host name), network, pid (processes), cgroup, mount. [/linux/namespaces]
      Why: A namespace gives its processes their own view of one kind of thing. Processes in
           namespaces of their own, with a root file system of their own, are what people call a
           container. The kernel makes the user namespace first. Its owner may make the others
           without being root.
      Read: namespaces(7), clone(2)
   3  The runtime maps the container's user id 0 to the host's user id 1000. [/linux/uidMappings]
   4  The runtime maps the container's group id 0 to the host's group id 1000. [/linux/gidMappings]
      Why: A new user namespace has no ids. The map says which user of the host stands behind each:
           root in the container is another user outside, who owns its files and has that user's
           rights only.
      Read: user_namespaces(7), newuidmap(1)

The file system
   5  Init makes all mounts slave: new mounts of the host still arrive, and the container's stay
      inside. [/linux/rootfsPropagation]
      Why: The new mount namespace begins as a copy of the host's. The propagation decides whether a
           mount that is made on one side appears on the other.
      Read: mount_namespaces(7)
   6  Init makes /bundle/rootfs, the image's files, a mount of its own. [/root/path]
      Why: Only a mount can become the root, and its options then apply to the container alone.
      Read: mount(2), pivot_root(2)
   7  Init mounts a new proc at /proc. [/mounts/0]
      Why: Programs such as ps read /proc, and a new one shows the processes of the container's pid
           namespace only.
      Read: proc(5), pid_namespaces(7)
   8  Init mounts a new tmpfs at /dev, with nosuid, strictatime, mode=755, size=65536k. [/mounts/1]
      Why: A tmpfs keeps its files in memory. It begins empty and ends with the container.
      Read: tmpfs(5)
   9  Init mounts a new devpts at /dev/pts, with nosuid, noexec, newinstance, ptmxmode=0666,
      mode=0620, gid=5. [/mounts/2]
      Why: Terminals of the container get a numbering of their own, so that it cannot open the
           host's.
      Read: pts(4), pty(7)
  10  Init mounts a new tmpfs at /dev/shm, with nosuid, nodev, noexec, mode=1777, size=65536k.
      [/mounts/3]
      Why: A tmpfs keeps its files in memory. It begins empty and ends with the container.
      Read: tmpfs(5)
  11  Init mounts a new mqueue at /dev/mqueue, with nosuid, nodev, noexec. [/mounts/4]
      Why: It shows the POSIX message queues of the container's ipc namespace.
      Read: mq_overview(7)
  12  Init mounts a new sysfs at /sys, with ro, nosuid, nodev, noexec. [/mounts/5]
      Why: It shows the kernel's devices. The network devices in it are those of the container's
           namespace.
      Read: sysfs(5), network_namespaces(7)
  13  Init mounts a new cgroup at /sys/fs/cgroup, with ro, nosuid, nodev, noexec, relatime.
      [/mounts/6]
      Why: The program can read its limits and what it uses, and the files show only its own cgroup.
      Read: cgroups(7), cgroup_namespaces(7)
  14  Init makes the host's device appear as /dev/null, character device 1:3. [/linux/devices]
  15  Init makes the host's device appear as /dev/zero, character device 1:5. [/linux/devices]
  16  Init makes the host's device appear as /dev/full, character device 1:7. [/linux/devices]
  17  Init makes the host's device appear as /dev/random, character device 1:8. [/linux/devices]
  18  Init makes the host's device appear as /dev/urandom, character device 1:9. [/linux/devices]
  19  Init makes the host's device appear as /dev/tty, character device 5:0. [/linux/devices]
      Why: Programs expect these nodes. The host's own /dev is not shown, so that the container
           lacks the nodes of its disks. Only root of the host may make a node. Others may show one
           that the host has.
      Read: mknod(2), null(4)
  20  Init makes the symbolic link /dev/fd to /proc/self/fd. [/linux/devices]
  21  Init makes the symbolic link /dev/stdin to /proc/self/fd/0. [/linux/devices]
  22  Init makes the symbolic link /dev/stdout to /proc/self/fd/1. [/linux/devices]
  23  Init makes the symbolic link /dev/stderr to /proc/self/fd/2. [/linux/devices]
  24  Init makes the symbolic link /dev/ptmx to pts/ptmx. [/linux/devices]
      Why: Shells and other programs use these names.
      Read: proc(5), symlink(7)
  25  Init makes the working directory /, unless the image has it. [/process/cwd]
      Why: The program starts there.
      Read: mkdir(2)

Names and settings of the kernel
  26  Init sets the host name rootless. [/hostname]
      Why: The uts namespace keeps it from the host.
      Read: sethostname(2), uts_namespaces(7)

The file system
  27  Init opens a new terminal, and the runtime gets its other end. [/process/terminal]
      Why: The program then has a terminal of its own, with a size, Ctrl-C and job control.
      Read: pty(7), pts(4)

What is hidden
  28  Init makes /proc/bus read-only. [/linux/readonlyPaths/0]
  29  Init makes /proc/fs read-only. [/linux/readonlyPaths/1]
  30  Init makes /proc/irq read-only. [/linux/readonlyPaths/2]
  31  Init makes /proc/sys read-only. [/linux/readonlyPaths/3]
  32  Init makes /proc/sysrq-trigger read-only. [/linux/readonlyPaths/4]
      Why: Not even root of the container can write there. In /proc and /sys are files that change
           the kernel for everybody. A bind mount of a place on itself has options of its own.
      Read: proc(5), mount_setattr(2)
  33  Init hides /proc/acpi, if this kernel has it. [/linux/maskedPaths/0]
  34  Init hides /proc/asound, if this kernel has it. [/linux/maskedPaths/1]
  35  Init hides /proc/kcore, if this kernel has it. [/linux/maskedPaths/2]
  36  Init hides /proc/keys, if this kernel has it. [/linux/maskedPaths/3]
  37  Init hides /proc/latency_stats, if this kernel has it. [/linux/maskedPaths/4]
  38  Init hides /proc/timer_list, if this kernel has it. [/linux/maskedPaths/5]
  39  Init hides /proc/timer_stats, if this kernel has it. [/linux/maskedPaths/6]
  40  Init hides /proc/sched_debug, if this kernel has it. [/linux/maskedPaths/7]
  41  Init hides /sys/firmware, if this kernel has it. [/linux/maskedPaths/8]
  42  Init hides /proc/scsi, if this kernel has it. [/linux/maskedPaths/9]
      Why: It tells more of the host than a container should know. An empty directory, or the null
           device, is mounted over it.
      Read: proc(5), null(4)

The change of roots
  43  Init makes the root file system read-only. [/root/readonly]
      Why: The program cannot change the image. What it must write goes to the mounts.
      Read: mount_setattr(2)
  44  Init exchanges the roots: the image's files become /, and the host's are detached.
      [/root/path]
      Why: With chroot alone the host's files would still be mounted, and a process with privileges
           gets out of it. After pivot_root there is nothing to get out to.
      Read: pivot_root(2)

The process
  45  Init sets RLIMIT_NOFILE to 1024. The program may raise it up to 1024. [/process/rlimits/0]
      Why: Resource limits are of each process, and its children inherit them.
      Read: getrlimit(2)
  46  Init takes the user and group ids 0:0. [/process/user]
      Why: Until here init was root of the container, because the mounts need it.
      Read: credentials(7)
  47  Init sets the umask 0022. [/process/user/umask]
      Why: These permissions are taken from every new file.
      Read: umask(2)
  48  Init enters the working directory /. [/process/cwd]
      Why: The program begins there. Root of the container tries it first, because the program's
           user may not be allowed to enter it.
      Read: chdir(2)
  49  Init's bounding set becomes: CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE.
      [/process/capabilities/bounding]
  50  Init's effective set becomes: CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE.
      [/process/capabilities/effective]
  51  Init's permitted set becomes: CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE.
      [/process/capabilities/permitted]
      Why: The kernel divides root's power into capabilities. Even root of the container keeps only
           these, and what is not in the bounding set never comes back.
      Read: capabilities(7)
  52  Init sets no_new_privs. [/process/noNewPrivileges]
      Why: From now on set-user-ID programs, such as su, give no privileges.
      Read: prctl(2)

The program
  53  Init prepares the environment: PATH, TERM. [/process/env]
      Why: The program gets none of the caller's variables.
      Read: environ(7)
  54  Init becomes the program: sh. [/process/args]
      Why: execve keeps the process, its namespaces and its limits, and replaces what runs in it. In
           a pid namespace of its own the program is process 1, and when it ends the kernel ends all
           others in there.
      Read: execve(2), pid_namespaces(7)
