# A program that starts another one and ends at once, so that init adopts the other (spawn.py). For x86-64.
#
# Its arguments are the other program's, of which argv[0] is the path. It exits with 0, or with the error number of
# vfork(2) or execve(2).

.intel_syntax noprefix
.globl _start
_start:
    push 0                          # the error number, in memory that both processes share
    mov eax, 58                     # vfork(): this process waits until the other one executes its program
    syscall
    test eax, eax
    js failed
    jnz leave
    mov rdi, [rsp + 16]             # argv[0]; argc is at [rsp + 8]
    lea rsi, [rsp + 16]
    mov rcx, [rsp + 8]
    lea rdx, [rsp + rcx * 8 + 24]   # the environment begins behind the NULL after the arguments
    mov eax, 59                     # execve(argv[0], argv, environment)
    syscall
failed:
    neg eax
    mov [rsp], eax
leave:
    mov edi, [rsp]
    mov eax, 231                    # exit_group(error number)
    syscall
