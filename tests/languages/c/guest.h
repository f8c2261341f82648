// What every guest of this folder needs: giving up, lists that grow, packed numbers, and columns of byte strings.
//
// The lists and records are those of the bindings. Who makes one frees it, with the bindings' `_free` functions; what
// an import returns, and what an export is given, is the guest's as well. A *view* points into somebody else's memory:
// it may be passed to imports, which never change what they are given, and must not be freed.

#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "task.h"

typedef task_list_u8_t bytes_t;
typedef task_option_list_u8_t maybe_bytes_t;
typedef types_bytes_column_t column_t;

// Writes the place and a message to standard error, whose end becomes a part of the job's error, and traps.
#define fail(format, ...) \
    (fprintf(stderr, "%s:%d: " format "\n", __FILE__, __LINE__ __VA_OPT__(, ) __VA_ARGS__), abort())

// Appends an element to a list of the bindings that was empty, `{}`, and has only grown by this since.
#define append(list, ...) \
    ((list)->ptr = with_room((list)->ptr, (list)->len, (list)->len + 1, sizeof *(list)->ptr), \
     (list)->ptr[(list)->len++] = (__VA_ARGS__))

// Gives the memory of `len` elements room for `needed`, moving it if need be.
void *with_room(void *ptr, size_t len, size_t needed, size_t size);

// Allocates. It never returns NULL, which would be dangerous: in WebAssembly, address 0 is memory like any other.
void *allocate(size_t size);

// A copy of a text, ended by a zero as C has it. To be freed with `free`.
char *copy_text(const void *text, size_t len);

// A view of a text.
task_string_t string(const char *text);

// A view of bytes that are there.
maybe_bytes_t some(bytes_t bytes);

// A copy of some bytes.
bytes_t copy(bytes_t bytes);

// A packed number, by its index.
uint32_t u32_at(bytes_t packed, size_t index);
uint64_t u64_at(bytes_t packed, size_t index);
int64_t s64_at(bytes_t packed, size_t index);

// Packs one more number, under the same conditions as `append`.
void append_u32(bytes_t *packed, uint32_t number);
void append_s64(bytes_t *packed, int64_t number);

// The number of entries of a column.
size_t column_len(const column_t *column);

// Appends a copy of an entry.
void column_append(column_t *column, maybe_bytes_t entry);

// A view of an entry.
maybe_bytes_t column_get(const column_t *column, size_t index);

#endif
