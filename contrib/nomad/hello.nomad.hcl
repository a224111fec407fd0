# A job that runs a container with `rootless run`. raw_exec starts the command as Nomad's own user; exec would put it into a
# chroot of Nomad's first, in which a container needs more than it finds.
job "hello" {
  type = "batch"

  group "hello" {
    task "hello" {
      driver = "raw_exec"
      user   = "jobs" # an ordinary user with a home, for the cache of images, and ranges in /etc/subuid and /etc/subgid

      config {
        command = "/usr/local/bin/rootless"
        args = [
          "run", "--rm", "--name", "hello-${NOMAD_ALLOC_ID}",
          "--memory", "${NOMAD_MEMORY_LIMIT}m",
          "--volume", "${NOMAD_TASK_DIR}:/local",
          "/srv/images/busybox.tar", "--", "sh", "-c", "echo hello >/local/out; sleep 10",
        ]
      }

      kill_signal  = "SIGTERM" # passed on to the container's program
      kill_timeout = "10s"

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
