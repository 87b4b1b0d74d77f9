/* The program of the test containers. Its first argument selects an action. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void on_term(int signal) {
    (void)signal;
    if (write(1, "bye\n", 4) != 4) _exit(9);
    _exit(0);
}

static void show(const char *path) {
    char buffer[65536];
    size_t n;
    FILE *file = fopen(path, "r");
    if (!file) { printf("no %s\n", path); return; }
    while ((n = fread(buffer, 1, sizeof buffer, file)) > 0) fwrite(buffer, 1, n, stdout);
    fclose(file);
}

static const char *can_write(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    if (fd < 0) return "no";
    close(fd);
    return "yes";
}

static void stay(void) {
    printf("up\n");
    for (;;) pause();
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(what, "say")) {
        for (int i = 2; i < argc; i++) printf("%s\n", argv[i]);
        fprintf(stderr, "to stderr\n");
    } else if (!strcmp(what, "exit")) {
        return atoi(argv[2]);
    } else if (!strcmp(what, "die")) {
        raise(atoi(argv[2]));
    } else if (!strcmp(what, "output")) {
        FILE *file = fopen(getenv("KAHN_OUTPUT"), "a");
        if (!file) return 3;
        for (int i = 2; i < argc; i++) fprintf(file, "%s\n", argv[i]);
        fclose(file);
    } else if (!strcmp(what, "flood-output")) {
        FILE *file = fopen(getenv("KAHN_OUTPUT"), "a");
        if (!file) return 3;
        for (int i = 0; i < 1000000; i++) fputs("a=1\n", file);
        fclose(file);
    } else if (!strcmp(what, "flood")) {
        for (int i = 0; i < atoi(argv[2]); i++) printf("line %d\n", i);
    } else if (!strcmp(what, "stay")) {
        stay();
    } else if (!strcmp(what, "stay-stubbornly")) {
        signal(SIGTERM, SIG_IGN);
        stay();
    } else if (!strcmp(what, "stay-politely")) {
        signal(SIGTERM, on_term);
        stay();
    } else if (!strcmp(what, "eat")) {
        size_t bytes = (size_t)atoi(argv[2]) << 20;
        char *memory = malloc(bytes);
        for (size_t i = 0; i < bytes; i += 4096) memory[i] = 1;
        struct timespec span = {atoi(argv[3]), 0};
        nanosleep(&span, NULL);
        printf("ate %d\n", memory[bytes - 1]);
    } else if (!strcmp(what, "env")) {
        for (int i = 2; i < argc; i++) printf("%s=%s\n", argv[i], getenv(argv[i]) ? getenv(argv[i]) : "(none)");
    } else if (!strcmp(what, "look")) {
        char dir[4096];
        printf("uid=%d gid=%d\n", getuid(), getgid());
        printf("pid=%d cwd=%s\n", getpid(), getcwd(dir, sizeof dir));
        printf("root=%s tmp=%s\n", can_write("/x"), can_write("/tmp/x"));
        show("/proc/self/status");
        show("/proc/net/dev");
    } else if (!strcmp(what, "serve")) {
        struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 1)) return 4;
        printf("up\n");
        int caller = accept(listener, NULL, NULL);
        if (write(caller, "served\n", 7) != 7) return 5;
    } else if (!strcmp(what, "files")) {
        for (int i = 2; i < argc; i++) { printf("%s write=%s: ", argv[i], can_write(argv[i])); show(argv[i]); }
    } else {
        printf("nothing to do\n");
    }
    return 0;
}
