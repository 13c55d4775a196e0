#include "who.h"

#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

enum { HOST_MAX = 64 };

void who_am_i(char *dst)
{
    const struct passwd *user = getpwuid(geteuid());
    char host[HOST_MAX + 1] = "unknown";

    if (gethostname(host, sizeof(host) - 1) == 0)
        host[HOST_MAX] = '\0';
    if (user != NULL)
        snprintf(dst, WHO_MAX, "%.60s@%.60s", user->pw_name, host);
    else
        snprintf(dst, WHO_MAX, "uid %ld@%.60s", (long)geteuid(), host);
}
