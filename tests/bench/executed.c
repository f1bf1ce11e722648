/* Run a program instruction by instruction, with all the processes it makes until they run another one, and write the
 * addresses between FROM and TO that were executed, in hexadecimal, to FILE.
 *
 *     executed FROM TO FILE PROGRAM [ARGUMENT...]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* The program runs from another mount of the same file after its first moments, so by number, not by name. */
static int still_the_program(pid_t pid, const struct stat *program) {
    char path[64];
    struct stat now;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    return stat(path, &now) == 0 && now.st_dev == program->st_dev && now.st_ino == program->st_ino;
}

int main(int argc, char **argv) {
    if (argc < 5) return 125;
    unsigned long from = strtoul(argv[1], NULL, 16), to = strtoul(argv[2], NULL, 16);
    unsigned char *executed = calloc(to - from, 1);
    struct stat program;
    int status, result = 125;
    if (!executed || stat(argv[4], &program)) return 125;

    pid_t first = fork();
    if (first == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[4], argv + 4);
        _exit(127);
    }
    waitpid(first, &status, 0);
    ptrace(PTRACE_SETOPTIONS, first, 0,
           PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC);
    ptrace(PTRACE_SINGLESTEP, first, 0, 0);
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (pid == first) {
                result = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
                break;
            }
            continue;
        }
        if (status >> 16 == PTRACE_EVENT_EXEC && !still_the_program(pid, &program)) {
            ptrace(PTRACE_DETACH, pid, 0, 0);
            continue;
        }
        int signal = WSTOPSIG(status);
        if (signal == SIGTRAP || signal == SIGSTOP) signal = 0;
        struct user_regs_struct registers;
        if (ptrace(PTRACE_GETREGS, pid, 0, &registers) == 0 && registers.rip >= from && registers.rip < to)
            executed[registers.rip - from] = 1;
        ptrace(PTRACE_SINGLESTEP, pid, 0, signal);
    }
    FILE *file = fopen(argv[3], "w");
    if (!file) return 125;
    for (unsigned long at = from; at < to; at++)
        if (executed[at - from]) fprintf(file, "%lx\n", at);
    return fclose(file) ? 125 : result;
}
