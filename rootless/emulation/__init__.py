"""Emulate what a user namespace with a single id forbids to root: other owners, other users, device nodes.

Two ways: `errno` is a seccomp filter that answers success in the kernel, and nothing happens; with `notify` a process
of ours, the supervisor, answers the system calls, remembers owners in extended attributes and identities for each
process, so that stat(2) and getuid(2) agree with what a program did before (docs/internals/root-emulation.md).
"""
