// Takes a message apart into commands and words, and sends what comes of it.

#include "run.h"

#include <stdlib.h>
#include <string.h>

char *more(run_t *run)
{
    return strtok_r(run->words, " ", &run->words);
}

char *word(run_t *run)
{
    char *word = more(run);
    if (word == NULL)
        fail("a word is missing");
    return word;
}

// The commands of a message as a string of C: the first line of its value.
static char *script_of(const types_message_t *message)
{
    bytes_t value = message->value.val;
    if (!message->value.is_some || value.len == 0)
        return copy_text("see", 3);
    const uint8_t *end = memchr(value.ptr, '\n', value.len);
    return copy_text(value.ptr, end != NULL ? (size_t)(end - value.ptr) : value.len);
}

outcome_t carry_out(const types_message_t *message)
{
    char *script = script_of(message);
    char *results;
    size_t len;
    run_t run = {.message = message, .out = open_memstream(&results, &len)};
    if (run.out == NULL)
        fail("no memory for the results");
    bool is_first = true;
    for (char *rest = script; run.outcome.how == DONE && (run.words = strtok_r(rest, ";", &rest)) != NULL;) {
        fputs(is_first ? "" : "; ", run.out);
        is_first = false;
        run_command(&run);
    }
    if (ferror(run.out) || fclose(run.out) != 0)
        fail("no memory for the results");
    if (run.outcome.how == DONE)
        send_result((task_string_t){(uint8_t *)results, len});
    free(results);
    free(script);
    return run.outcome;
}

void send_result(task_string_t text)
{
    task_string_t port = string("results");
    types_outgoing_t message = {.value = some((bytes_t){text.ptr, text.len})};
    output_send(&port, &message);
}
