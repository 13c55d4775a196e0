/* The outlets by name. See outlet.h. */
#include "outlet.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "job.h"

void outlets_init(struct outlets *outlets)
{
    memset(outlets, 0, sizeof(*outlets));
    pthread_mutex_init(&outlets->lock, NULL);
}

void outlets_fini(struct outlets *outlets)
{
    for (size_t i = 0; i < outlets->count; i++) {
        idset_fini(&outlets->items[i]->keeper.held);
        reach_fini(&outlets->items[i]->reach);
        obx_free(outlets->items[i]);
    }
    pthread_mutex_destroy(&outlets->lock);
}

static struct outlet *find(struct outlets *outlets, const char *name)
{
    for (size_t i = 0; i < outlets->count; i++) {
        if (strcmp(outlets->items[i]->name, name) == 0)
            return outlets->items[i];
    }
    return NULL;
}

struct outlet *outlets_get(struct outlets *outlets, const char *name)
{
    const size_t max = sizeof(outlets->items) / sizeof(outlets->items[0]);
    struct outlet *outlet;

    pthread_mutex_lock(&outlets->lock);
    outlet = find(outlets, name);
    if (outlet == NULL && outlets->count < max) {
        outlet = obx_calloc(1, sizeof(*outlet));
        if (outlet != NULL) {
            snprintf(outlet->name, sizeof(outlet->name), "%s", name);
            reach_init(&outlet->reach);
            outlets->items[outlets->count] = outlet;
            outlets->count++;
        }
    }
    pthread_mutex_unlock(&outlets->lock);
    return outlet;
}

void job_list_add(struct job_list *list, struct job *job)
{
    job->next = NULL;
    if (list->last != NULL)
        list->last->next = job;
    else
        list->first = job;
    list->last = job;
    list->count++;
}

struct job *job_list_take(struct job_list *list)
{
    struct job *job = list->first;

    if (job == NULL)
        return NULL;
    list->first = job->next;
    if (list->first == NULL)
        list->last = NULL;
    list->count--;
    job->next = NULL;
    return job;
}
