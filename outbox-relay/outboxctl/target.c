/*
 * Targets. Called by every command but check.
 */
#include "target.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "config/address.h"
#include "config/config_or_say.h"
#include "obx/doorbell.h"
#include "outbox/bell_msg.h"

enum { PASSWORD_MAX = 1024 };

extern char **environ;

static enum ctl_exit usage(const char *what, const char *word)
{
    fprintf(stderr, "outboxctl: %s%s\n", what, word);
    return CTL_USAGE;
}

/* The first line of a file, without its end. */
static enum ctl_exit read_password(const char *path, char **out)
{
    char line[PASSWORD_MAX + 2];
    FILE *file = fopen(path, "re");

    if (file == NULL) {
        fprintf(stderr, "outboxctl: --password-file %s: %s\n", path, strerror(errno));
        return CTL_USAGE;
    }
    if (fgets(line, sizeof(line), file) == NULL)
        line[0] = '\0';
    fclose(file);
    line[strcspn(line, "\r\n")] = '\0';
    *out = obx_strdup(line);
    memset(line, 0, sizeof(line));
    return *out == NULL ? CTL_FAILED : CTL_OK;
}

static enum ctl_exit from_url(const char *text, struct targets *targets)
{
    struct obx_err err = {0};

    if (db_url_parse(text, &targets->url, &err) != OBX_OK)
        return usage(err.text, "");
    targets->items = obx_calloc(1, sizeof(*targets->items));
    if (targets->items == NULL)
        return CTL_FAILED;
    targets->count = 1;
    targets->items[0].db = targets->url.opts;
    targets->items[0].source = targets->url.opts.database;
    return CTL_OK;
}

static enum ctl_exit from_config(const struct ctl_args *args, struct targets *targets)
{
    const char *wanted = args->text[CTL_SOURCE];
    enum obx_code rc = OBX_OK;

    targets->config = config_or_say("outboxctl", args->config, environ, &rc);
    if (targets->config == NULL)
        return rc == OBX_E_CONFIG ? CTL_USAGE : CTL_FAILED;
    targets->items = obx_calloc(targets->config->source_count, sizeof(*targets->items));
    if (targets->items == NULL)
        return CTL_FAILED;
    for (size_t i = 0; i < targets->config->source_count; i++) {
        const struct source_config *source = &targets->config->sources[i];

        if (wanted != NULL && strcmp(wanted, source->name) != 0)
            continue;
        targets->items[targets->count++] = (struct target){.source = source->name,
                                                           .db = source->lane.db,
                                                           .outboxes = source->outboxes,
                                                           .outbox_count = source->outbox_count};
    }
    return targets->count > 0 ? CTL_OK : usage("there is no source named ", wanted);
}

static enum ctl_exit set_login(const struct ctl_args *args, struct targets *targets)
{
    const char *path = args->text[CTL_PASSWORD_FILE];
    enum ctl_exit rc = path == NULL ? CTL_OK : read_password(path, &targets->password);

    for (size_t i = 0; i < targets->count && rc == CTL_OK; i++) {
        targets->items[i].db.program_name = "outboxctl";
        if (args->text[CTL_USER] != NULL) {
            /* Another user's password is not the configured one. */
            targets->items[i].db.user = args->text[CTL_USER];
            targets->items[i].db.password = NULL;
        }
        if (targets->password != NULL)
            targets->items[i].db.password = targets->password;
    }
    return rc;
}

enum ctl_exit targets_open(const struct ctl_args *args, struct targets *out)
{
    enum ctl_exit rc;

    memset(out, 0, sizeof(*out));
    if (args->text[CTL_DB] != NULL)
        rc = from_url(args->text[CTL_DB], out);
    else
        rc = from_config(args, out);
    if (rc == CTL_OK)
        rc = set_login(args, out);
    if (rc != CTL_OK)
        targets_close(out);
    return rc;
}

void targets_close(struct targets *targets)
{
    relay_config_unref(targets->config);
    db_url_fini(&targets->url);
    obx_free(targets->password);
    obx_free(targets->items);
    memset(targets, 0, sizeof(*targets));
}

const struct target *targets_single(const struct targets *targets)
{
    if (targets->count == 1)
        return &targets->items[0];
    usage("there are several sources; choose one with --source NAME", "");
    return NULL;
}

void target_complain(const struct target *target, const struct obx_err *err)
{
    fprintf(stderr, "outboxctl: %s: %s\n", target->source, err->text);
}

struct db *target_connect(const struct target *target)
{
    struct obx_err err = {0};
    struct db *db = NULL;

    if (db_open(&target->db, &db, &err) != OBX_OK)
        target_complain(target, &err);
    return db;
}

static void ring_by_udp(const char *address, const char *outbox)
{
    struct address to;
    int fd;

    if (!address_parse(address, &to))
        return;
    fd = socket(to.sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, outbox, strlen(outbox), MSG_NOSIGNAL, (const struct sockaddr *)&to.sa, to.len);
    close(fd);
}

void target_ring(const struct targets *targets, const struct target *target, const char *outbox,
                 const char *owner_address)
{
    char name[BELL_MSG_MAX];

    if (targets->config != NULL && targets->config->doorbell_socket != NULL) {
        snprintf(name, sizeof(name), "%s/%s", target->source, outbox);
        if (obx_doorbell_ring(targets->config->doorbell_socket, name, NULL) == OBX_OK)
            return;
    }
    ring_by_udp(owner_address, outbox);
}
