//! Where a static program may begin: before its C library does.
//!
//! A program that goes on in a read-only view of itself (CVE-2019-5736; `iechor-runtime`'s `own_binary`) starts twice, and
//! most of a small program's start is the C library asking the processor what it is: each of the some hundred `cpuid`
//! instructions of it leaves a virtual machine, half a millisecond in all where this was measured, a sixth of a whole
//! `run`. The first start can do without: what it does is six system calls. A program is linked with `iechor_start` as its
//! entry to have them done there: with `create`, `run` or `exec` among the arguments, root's program goes on in the
//! read-only view. In that view, without such a word, and for other users it is the C library's own entry.
//!
//! Whatever goes wrong here is passed over: the program starts as usual, and does the same again with a message.

// SAFETY: runs once, as the first instructions of the process, on the stack that the kernel has made (System V ABI, AMD64
// supplement, 3.4.1): the number of arguments, their addresses, a zero, the environment's addresses. It reads there, of
// each argument as far as what it has read was not the end, and no more than eight bytes past an end that the kernel puts
// the program's name behind. It writes below the stack's top, and gives the C library the registers that it was given
// (`rdx`, `rsp`); nothing else has a meaning at that point.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    r#"
    .pushsection .text.iechor_start, "ax", @progbits
    .globl iechor_start
    .type iechor_start, @function
iechor_start:
    mov r15, rsp
    mov r12, rdx
    lea r13, [rsp + 8]              /* argv */
    mov rax, [rsp]
    lea r14, [r13 + rax*8 + 8]      /* envp */
    mov rsi, r13
2:  add rsi, 8                      /* the next argument */
    mov rax, [rsi]
    test rax, rax
    jz 9f
    mov ecx, [rax]
    cmp ecx, 0x006e7572             /* "run" and its end */
    je 5f
    cmp ecx, 0x63657865             /* "exec" */
    jne 4f
    cmp byte ptr [rax + 4], 0
    je 5f
    jmp 2b
4:  cmp ecx, 0x61657263             /* "crea" */
    jne 2b
    cmp dword ptr [rax + 3], 0x00657461
    jne 2b
5:  mov eax, {geteuid}
    syscall
    test eax, eax
    jnz 9f
    mov edi, {cwd}
    lea rsi, [rip + 13f]
    mov edx, {path_cloexec}
    mov eax, {openat}
    syscall
    test eax, eax
    js 9f
    mov ebx, eax
    mov edi, eax
    lea rsi, [rsp - {statfs_size}]  /* what is below the stack's top is ours, and no signal has a handler yet */
    mov eax, {fstatfs}
    syscall
    test eax, eax
    jnz 8f
    test byte ptr [rsp - {statfs_size} + {statfs_flags}], {read_only}
    jnz 8f
    mov edi, ebx
    lea rsi, [rip + 12f]
    mov edx, {clone_empty_path}
    mov eax, {open_tree}
    syscall
    test eax, eax
    js 8f
    mov ebp, eax
    mov edi, eax
    lea rsi, [rip + 12f]
    mov edx, {empty_path}
    lea r10, [rip + 14f]
    mov r8d, 32
    mov eax, {mount_setattr}
    syscall
    test eax, eax
    jnz 7f
    mov edi, ebp
    lea rsi, [rip + 12f]
    mov rdx, r13
    mov r10, r14
    mov r8d, {empty_path}
    mov eax, {execveat}
    syscall                         /* comes back only when it fails */
7:  mov edi, ebp
    mov eax, {close}
    syscall
8:  mov edi, ebx
    mov eax, {close}
    syscall
9:  mov rsp, r15
    mov rdx, r12
    xor ebp, ebp
    jmp _start
    .size iechor_start, . - iechor_start
    .popsection
    .pushsection .rodata.iechor_start, "a", @progbits
    .balign 8
14: .quad {attr_read_only}, 0, 0, 0 /* struct mount_attr */
13: .asciz "/proc/self/exe"
12: .asciz ""
    .popsection
"#,
    geteuid = const libc::SYS_geteuid,
    openat = const libc::SYS_openat,
    fstatfs = const libc::SYS_fstatfs,
    open_tree = const libc::SYS_open_tree,
    mount_setattr = const libc::SYS_mount_setattr,
    execveat = const libc::SYS_execveat,
    close = const libc::SYS_close,
    cwd = const libc::AT_FDCWD,
    path_cloexec = const libc::O_PATH | libc::O_CLOEXEC,
    clone_empty_path = const libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint,
    empty_path = const libc::AT_EMPTY_PATH,
    attr_read_only = const libc::MOUNT_ATTR_RDONLY,
    read_only = const libc::ST_RDONLY,
    statfs_size = const size_of::<libc::statfs>().next_multiple_of(16),
    // f_flags, which the crate keeps to itself, is the word behind this one.
    statfs_flags = const std::mem::offset_of!(libc::statfs, f_frsize) + 8,
);
