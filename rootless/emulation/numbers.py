"""List the numbers of the system calls that the supervisor answers, for each architecture (asm/unistd.h).

A name that ends in 16 is a call of i386 with ids of 16 bits; its number there belongs to the plain name.
"""

from __future__ import annotations

# linux/audit.h
X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
_X32_BIT = 0x40000000  # asm/unistd.h: __X32_SYSCALL_BIT; the kernel reports the architecture x86_64

_ON_X86_64 = {
    "setuid": 105, "setgid": 106, "setreuid": 113, "setregid": 114, "setresuid": 117, "setresgid": 119,
    "setfsuid": 122, "setfsgid": 123, "setgroups": 116, "getuid": 102, "geteuid": 107, "getgid": 104, "getegid": 108,
    "getresuid": 118, "getresgid": 120, "getgroups": 115, "chown": 92, "lchown": 94, "fchown": 93, "fchownat": 260,
    "stat": 4, "lstat": 6, "fstat": 5, "newfstatat": 262, "statx": 332, "mknod": 133, "mknodat": 259, "capset": 126,
    "chroot": 161, "pivot_root": 155, "unshare": 272, "setns": 308,
}  # fmt: skip
_ON_I386 = {
    "setuid": 213, "setgid": 214, "setreuid": 203, "setregid": 204, "setresuid": 208, "setresgid": 210,
    "setfsuid": 215, "setfsgid": 216, "setgroups": 206, "getuid": 199, "geteuid": 201, "getgid": 200, "getegid": 202,
    "getresuid": 209, "getresgid": 211, "getgroups": 205, "chown": 212, "lchown": 198, "fchown": 207, "fchownat": 298,
    "stat64": 195, "lstat64": 196, "fstat64": 197, "fstatat64": 300, "statx": 383, "mknod": 14, "mknodat": 297,
    "capset": 185, "chroot": 61, "pivot_root": 217, "unshare": 310, "setns": 346,
    "setuid16": 23, "setgid16": 46, "setreuid16": 70, "setregid16": 71, "setresuid16": 164, "setresgid16": 170,
    "setfsuid16": 138, "setfsgid16": 139, "setgroups16": 81, "getuid16": 24, "geteuid16": 49, "getgid16": 47,
    "getegid16": 50, "getresuid16": 165, "getresgid16": 171, "getgroups16": 80, "chown16": 182, "lchown16": 16,
    "fchown16": 95, "stat": 106, "lstat": 107, "fstat": 108,
}  # fmt: skip
_ON_AARCH64 = {
    "setuid": 146, "setgid": 144, "setreuid": 145, "setregid": 143, "setresuid": 147, "setresgid": 149,
    "setfsuid": 151, "setfsgid": 152, "setgroups": 159, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177,
    "getresuid": 148, "getresgid": 150, "getgroups": 158, "fchown": 55, "fchownat": 54, "fstat": 80, "newfstatat": 79,
    "statx": 291, "mknodat": 33, "capset": 91, "chroot": 51, "pivot_root": 41, "unshare": 97, "setns": 268,
}  # fmt: skip


def all_numbers() -> dict[tuple[int, int], str]:
    """Return {(AUDIT_ARCH_*, number): name}. x32 has the numbers of x86_64 with one more bit."""
    numbers = {(arch, number): name for arch, table in _TABLES for name, number in table.items()}
    numbers.update({(X86_64, number | _X32_BIT): name for name, number in _ON_X86_64.items()})
    return numbers


_TABLES = ((X86_64, _ON_X86_64), (I386, _ON_I386), (AARCH64, _ON_AARCH64))
