"""What takes the place of a vDSO's clock functions on x86-64: source, and the same assembled.

The functions make the real system call and add to its answer what the block in force says. Blocks are
changed while threads run, without stopping them: the one that is not in force is written, then one byte
goes on, which says by its lowest bit which is; who read across a change reads again. A test assembles
`SOURCE`, where the tools for it are, and compares.

Source: System V ABI, AMD64 supplement (which registers a function may use); vdso(7).
"""

from __future__ import annotations

from typing import Final

SOURCE: Final = """
.intel_syntax noprefix
# One version byte; the block in force is that of its lowest bit. A block is that of the real clocks,
# then that of the monotonic ones: t0, offset, rate, half, amount (8 bytes each).

clock_gettime:                  # edi: which, rsi: where to
    mov eax, 228
    syscall
    test eax, eax
    jnz 3f
    cmp edi, 31
    ja 3f
    xor r8d, r8d
    mov edx, 0x21               # REALTIME, REALTIME_COARSE
    bt edx, edi
    jc 2f
    mov edx, 0x42               # MONOTONIC, MONOTONIC_COARSE
    bt edx, edi
    jnc 3f
    mov r8d, 40
2:  imul rdi, [rsi], 1000000000
    add rdi, [rsi+8]
    call course
    mov [rsi], rax
    mov [rsi+8], rdx
    xor eax, eax
3:  ret

gettimeofday:                   # rdi: where to, rsi: time zone, where to
    mov eax, 96
    syscall
    test eax, eax
    jnz 3b
    test rdi, rdi
    jz 3b
    mov rsi, rdi
    imul rdi, [rsi], 1000000
    add rdi, [rsi+8]
    imul rdi, rdi, 1000
    xor r8d, r8d
    call course
    mov [rsi], rax
    mov eax, edx
    xor edx, edx
    mov ecx, 1000
    div ecx
    mov [rsi+8], rax
    xor eax, eax
    ret

time:                           # rdi: where to, or null
    push rdi
    sub rsp, 16
    mov rsi, rsp
    mov edi, 5                  # REALTIME_COARSE, as the kernel's own
    mov eax, 228
    syscall
    imul rdi, [rsp], 1000000000
    add rdi, [rsp+8]
    xor r8d, r8d
    call course
    add rsp, 16
    pop rdi
    test rdi, rdi
    jz 4f
    mov [rdi], rax
4:  ret

course:                         # rdi: true time, r8: which clocks -> rax: seconds, rdx: nanoseconds
    lea r9, [rip+version]
5:  movzx r10d, byte ptr [r9]
    mov eax, r10d
    and eax, 1
    imul eax, eax, 80
    lea r11, [r9+rax+8]
    add r11, r8
    mov rcx, rdi
    sub rcx, [r11]              # since t0
    xor edx, edx
    mov rax, [r11+24]
    test rax, rax
    jz 6f
    mov rax, rcx                # a square wave: amount in every other half
    div qword ptr [r11+24]
    and eax, 1
    neg rax
    and rax, [r11+32]
6:  add rax, [r11+8]
    xchg rax, rcx
    imul qword ptr [r11+16]     # rate: 2^32 is one second in a second
    shrd rax, rdx, 32
    add rax, rcx
    cmp r10b, [r9]
    jne 5b                      # it was set anew meanwhile
    add rax, rdi
    cqo
    mov ecx, 1000000000
    idiv rcx
    test rdx, rdx
    jns 7f
    add rdx, rcx
    dec rax
7:  ret

gate:                           # for whoever holds the thread: any system call, and back to him
    syscall
    int3

probe:                          # likewise: edi: which, rsi: where to, rdx: a clock_gettime
    mov ebx, edi
    mov rbp, rsi
    mov r12, rdx
    mov eax, 228
    syscall                     # the true time before
    mov edi, ebx
    lea rsi, [rbp+16]
    call r12
    mov r13, rax
    mov edi, ebx
    lea rsi, [rbp+32]
    mov eax, 228
    syscall                     # and after
    mov rax, r13
    int3
    .balign 64
version:
"""

CODE: Final = bytes.fromhex(
    "b8e40000000f0585c0753b83ff1f77364531c0ba210000000fa3fa7210ba420000000fa3fa731f41b82800000048693e"
    "00ca9a3b48037e08e8830000004889064889560831c0c3b8600000000f0585c075f44885ff74ef4889fe48693e40420f"
    "0048037e084869ffe80300004531c0e84c00000048890689d031d2b9e8030000f7f14889460831c0c3574883ec104889"
    "e6bf05000000b8e40000000f0548693c2400ca9a3b48037c24084531c0e80e0000004883c4105f4885ff7403488907c3"
    "4c8d0db9000000450fb6114489d083e0016bc0504d8d5c01084d01c34889f9492b0b31d2498b43184885c074114889c8"
    "49f7731883e00148f7d84923432049034308489149f76b10480facd0204801c8453a1175b24801f84899b900ca9a3b48"
    "f7f94885d279064801ca48ffc8c30f05cc89fb4889f54989d4b8e40000000f0589df488d751041ffd44989c589df488d"
    "7520b8e40000000f054c89e8cc66662e0f1f84000000000066662e0f1f84000000000066662e0f1f8400000000006690"
)

# Offsets in it.
CLOCK_GETTIME: Final = 0x0
GETTIMEOFDAY: Final = 0x47
TIME: Final = 0x89
GATE: Final = 0x12E
PROBE: Final = 0x131
VERSION: Final = 0x180  # from here on it is data
