# The small init of a container that shared the launcher's memory until it executed this (small_init.py). For x86-64.
# It does what reaper.py does in Python.
#
# Its one environment string is the pid of the program in decimal digits. Descriptor 3 takes the program's wait status,
# and descriptor 4 is a pidfd of the launcher. Every signal that it waits for is blocked already (reaper.block_all).

.intel_syntax noprefix
.globl _start
_start:
    mov rsi, [rsp + 24]             # argc, argv[0], NULL, then envp[0]: the program's pid
    xor ebx, ebx
digit:
    lodsb
    sub al, '0'
    jb parsed                       # the NUL at its end
    imul ebx, ebx, 10
    movzx eax, al
    add ebx, eax                    # ebx stays the program's pid
    jmp digit
parsed:
    mov eax, 157                    # prctl(PR_SET_NAME, name)
    mov edi, 15
    lea rsi, [rip + name]
    syscall
    mov eax, 157                    # prctl(PR_SET_PDEATHSIG, SIGKILL): execve has reset it
    mov edi, 1
    mov esi, 9
    syscall
    mov rax, 0x0000000100000004     # struct pollfd: fd 4, POLLIN
    push rax
    mov eax, 7                      # poll(pollfd, 1, 0): has the launcher ended before the call above?
    mov rdi, rsp
    mov esi, 1
    xor edx, edx
    syscall
    mov edi, 1
    test eax, eax
    jnz leave                       # nobody waits for the status
    mov eax, 3                      # close(4)
    mov edi, 4
    syscall
    xor ebp, ebp                    # ebp: whether the program has ended; r12d: its wait status

next:
    mov eax, 128                    # rt_sigtimedwait(all, NULL, NULL, 8)
    lea rdi, [rip + all]
    xor esi, esi
    xor edx, edx
    mov r10d, 8
    syscall
    test eax, eax
    js next                         # EINTR
    cmp eax, 17                     # SIGCHLD
    je reap
    mov esi, eax                    # kill(program, signal)
    mov edi, ebx
    mov eax, 62
    syscall
    jmp next

reap:
    mov eax, 61                     # wait4(-1, status, WNOHANG, NULL)
    mov edi, -1
    mov rsi, rsp
    mov edx, 1
    xor r10d, r10d
    syscall
    cmp eax, ebx
    jne other
    mov ebp, 1
    mov r12d, [rsp]
    jmp reap
other:
    test eax, eax
    jg reap
    test ebp, ebp
    jz next

    mov eax, 62                     # kill(-1, SIGKILL)
    mov edi, -1
    mov esi, 9
    syscall
wait:
    mov eax, 61                     # wait4(-1, NULL, 0, NULL) until ECHILD
    mov edi, -1
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    syscall
    test eax, eax
    jg wait
    mov byte ptr [rsp], 'S'         # write(3, "S" and the status as an int, 5)
    mov [rsp + 1], r12d
    mov eax, 1
    mov edi, 3
    mov rsi, rsp
    mov edx, 5
    syscall
    mov edi, r12d                   # the exit code of a shell: 128 and the signal, or the program's own
    and edi, 0x7f
    jz exited
    add edi, 128
    jmp leave
exited:
    mov edi, r12d
    shr edi, 8
leave:
    mov eax, 231                    # exit_group(edi)
    syscall

name:
    .asciz "rootless:init"
all:
    .quad 0                         # replaced by the set of reaper.ALL
