// How bytes, numbers and texts are written in the commands of the conformance guest, and shown in their results.

#ifndef NOTATION_H
#define NOTATION_H

#include <stdio.h>

#include "guest.h"

// These fail when the word cannot be read.
int64_t read_signed(const char *word);
uint64_t read_unsigned(const char *word);
uint32_t read_index(const char *word);
bytes_t read_bytes(const char *word);
maybe_bytes_t read_maybe_bytes(const char *word);

// Puts spaces in place of the underscores of a word, and returns it.
char *read_text(char *word);

// `name=bytes?`. The word is changed.
types_header_t read_header(char *word);

// Cuts a word in two at a character, which must be there; returns what stands behind it.
char *cut(char *word, char at);

void show_text(FILE *out, task_string_t text);
void show_bytes(FILE *out, maybe_bytes_t bytes);

#endif
