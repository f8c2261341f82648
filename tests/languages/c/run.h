// A message whose commands are being carried out, as the commands see it.

#ifndef RUN_H
#define RUN_H

#include <stdio.h>

#include "commands.h"

typedef struct {
    const types_message_t *message;
    // The words of the current command that have not been read yet.
    char *words;
    // The results of all commands.
    FILE *out;
    outcome_t outcome;
} run_t;

// The next word of the command, or NULL.
char *more(run_t *run);

// The next word of the command, which must have one.
char *word(run_t *run);

// Carries out the current command.
void run_command(run_t *run);

#endif
