/* Run a program once; print "NANOSECONDS KIB STATUS": wall time from fork to exit, peak resident memory of it and
 * of the children it waited for, and its exit code.
 *
 * Small and static because a child counts its parent's memory until it has called exec: measured from Python,
 * nothing would be smaller than Python. */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct timespec began, ended;
    struct rusage usage;
    int status;

    if (argc < 2) return 125;
    clock_gettime(CLOCK_MONOTONIC, &began);
    pid_t child = vfork();
    if (child == 0) {
        execv(argv[1], argv + 1);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child) return 125;
    clock_gettime(CLOCK_MONOTONIC, &ended);
    long long nanoseconds = (ended.tv_sec - began.tv_sec) * 1000000000LL + (ended.tv_nsec - began.tv_nsec);
    /* Not on the standard output: a container may have inherited that. */
    dprintf(3, "%lld %ld %d\n", nanoseconds, usage.ru_maxrss, WIFEXITED(status) ? WEXITSTATUS(status) : 128);
    return 0;
}
