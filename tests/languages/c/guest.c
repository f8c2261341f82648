// What every guest of this folder needs; see the header.

#include "guest.h"

#include <stdlib.h>
#include <string.h>

// How many elements there is room for in a list that only grows. It follows from the length, because the bindings' lists
// have no place to keep it: the least power of two that is not below.
static size_t capacity(size_t len)
{
    size_t capacity = len > 0;
    while (capacity < len)
        capacity = capacity > SIZE_MAX / 2 ? SIZE_MAX : capacity * 2;
    return capacity;
}

void *with_room(void *ptr, size_t len, size_t needed, size_t size)
{
    if (needed <= capacity(len))
        return ptr;
    ptr = reallocarray(ptr, capacity(needed), size);
    if (ptr == NULL)
        fail("no memory for %zu elements of %zu bytes", needed, size);
    return ptr;
}

void *allocate(size_t size)
{
    return with_room(NULL, 0, size, 1);
}

char *copy_text(const void *text, size_t len)
{
    char *copy = allocate(len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

task_string_t string(const char *text)
{
    return (task_string_t){(uint8_t *)text, strlen(text)};
}

maybe_bytes_t some(bytes_t bytes)
{
    return (maybe_bytes_t){true, bytes};
}

bytes_t copy(bytes_t bytes)
{
    bytes_t copy = {allocate(bytes.len), bytes.len};
    if (bytes.len > 0)
        memcpy(copy.ptr, bytes.ptr, bytes.len);
    return copy;
}

// Appends a copy of some bytes.
static void append_bytes(bytes_t *list, const void *bytes, size_t len)
{
    if (len == 0)
        return;
    list->ptr = with_room(list->ptr, list->len, list->len + len, 1);
    memcpy(list->ptr + list->len, bytes, len);
    list->len += len;
}

// Packed numbers have the byte order of WebAssembly, but as bytes they may begin at any address. A pointer to a number may
// not: hence the copies, which cost nothing.

uint32_t u32_at(bytes_t packed, size_t index)
{
    uint32_t number;
    memcpy(&number, packed.ptr + index * sizeof number, sizeof number);
    return number;
}

uint64_t u64_at(bytes_t packed, size_t index)
{
    uint64_t number;
    memcpy(&number, packed.ptr + index * sizeof number, sizeof number);
    return number;
}

int64_t s64_at(bytes_t packed, size_t index)
{
    return u64_at(packed, index);
}

void append_u32(bytes_t *packed, uint32_t number)
{
    append_bytes(packed, &number, sizeof number);
}

void append_s64(bytes_t *packed, int64_t number)
{
    append_bytes(packed, &number, sizeof number);
}

size_t column_len(const column_t *column)
{
    return column->ends.len / sizeof(uint32_t);
}

void column_append(column_t *column, maybe_bytes_t entry)
{
    if (entry.is_some)
        append_bytes(&column->data, entry.val.ptr, entry.val.len);
    else
        append_u32(&column->absent, column_len(column));
    append_u32(&column->ends, column->data.len);
}

static int compare_packed(const void *a, const void *b)
{
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

maybe_bytes_t column_get(const column_t *column, size_t index)
{
    uint32_t key = index;
    const bytes_t *absent = &column->absent;
    if (absent->len > 0 && bsearch(&key, absent->ptr, absent->len / sizeof key, sizeof key, compare_packed))
        return (maybe_bytes_t){};
    size_t start = index == 0 ? 0 : u32_at(column->ends, index - 1);
    return some((bytes_t){column->data.ptr + start, u32_at(column->ends, index) - start});
}
