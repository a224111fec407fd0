# Loaded by tests/vm/guest for test_apparmor.py.
profile rootless-test flags=(attach_disconnected, mediate_deleted) {
  file, capability, network, signal, ptrace,
  deny /tmp/denied w,
}
profile rootless-other flags=(attach_disconnected, mediate_deleted) {
  file, capability, network, signal, ptrace,
}
# Whoever runs under it can run containers, in rootless-test only.
profile rootless-caller flags=(attach_disconnected, mediate_deleted) {
  file, capability, network, signal, ptrace, mount, remount, umount, pivot_root, unix, dbus,
  change_profile -> rootless-test,
  change_profile -> &rootless-test,
}
