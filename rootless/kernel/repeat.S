# Make a recorded list of system calls, and end at the first one whose result is not the recorded one (recording.py).
# For x86-64.
#
#     struct entry *repeat(struct entry *first, struct entry *end);
#
# It returns NULL, or the entry that differs. An entry has ten numbers of 64 bits:
#
#      0  the number of the system call; -1 if memory has to hold a number, -2 if it may not hold that of other memory
#      8  its six arguments; of -1 an address and the bits that count, of -2 both addresses
#     56  bits 0 to 5: this argument is the address of the value; bit 6: any result that is no error will do
#     64  the recorded result
#     72  the result, written here

.intel_syntax noprefix
.globl repeat
repeat:
    push rbx
    push rbp
    push r12
    mov rbx, rdi
    mov r12, rsi
next:
    cmp rbx, r12
    jae same
    mov rax, [rbx]
    test rax, rax
    js compare
    mov ebp, [rbx + 56]
    mov rdi, [rbx + 8]
    shr ebp, 1
    jnc second
    mov rdi, [rdi]
second:
    mov rsi, [rbx + 16]
    shr ebp, 1
    jnc third
    mov rsi, [rsi]
third:
    mov rdx, [rbx + 24]
    shr ebp, 1
    jnc fourth
    mov rdx, [rdx]
fourth:
    mov r10, [rbx + 32]
    shr ebp, 1
    jnc fifth
    mov r10, [r10]
fifth:
    mov r8, [rbx + 40]
    shr ebp, 1
    jnc sixth
    mov r8, [r8]
sixth:
    mov r9, [rbx + 48]
    shr ebp, 1
    jnc call
    mov r9, [r9]
call:
    syscall
    mov [rbx + 72], rax
    shr ebp, 1
    jnc exact
    test rax, rax
    js differs
    jmp advance
compare:
    mov rcx, [rbx + 8]
    mov rcx, [rcx]
    mov rdx, [rbx + 16]
    inc rax
    jnz other
    mov rax, rcx
    and rax, rdx
exact:
    cmp rax, [rbx + 64]
    jne differs
advance:
    add rbx, 80
    jmp next
other:
    cmp rcx, [rdx]
    je differs
    jmp advance
same:
    xor ebx, ebx
differs:
    mov rax, rbx
    pop r12
    pop rbp
    pop rbx
    ret
