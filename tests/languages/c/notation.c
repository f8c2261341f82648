// How bytes, numbers and texts are written; see the header.

#include "notation.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// More bytes than these are shown by their number, their sum, and how they begin and end.
enum { SHOWN_WHOLE = 64, SHOWN_OF_LONG = 4 };

static void check_number(const char *word, const char *end)
{
    if (*word == '\0' || *end != '\0' || errno != 0)
        fail("%s is not a number, or out of range", word);
}

int64_t read_signed(const char *word)
{
    char *end;
    errno = 0;
    int64_t number = strtoll(word, &end, 10);
    check_number(word, end);
    return number;
}

uint64_t read_unsigned(const char *word)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(word, &end, 10);
    check_number(word, end);
    return number;
}

uint32_t read_index(const char *word)
{
    uint64_t number = read_unsigned(word);
    if (number > UINT32_MAX)
        fail("%s has more than 32 bits", word);
    return number;
}

static uint8_t read_byte(const char *word, const char *digits)
{
    if (!isxdigit(digits[0]) || !isxdigit(digits[1]))
        fail("%s is not bytes", word);
    return strtoul((char[]){digits[0], digits[1], '\0'}, NULL, 16);
}

bytes_t read_bytes(const char *word)
{
    if (strcmp(word, ".") == 0)
        return (bytes_t){};
    char *byte;
    size_t len = strtoul(word, &byte, 10);
    if (*byte == 'x' && strlen(byte) == 3) {
        bytes_t bytes = {allocate(len), len};
        memset(bytes.ptr, read_byte(word, byte + 1), len);
        return bytes;
    }
    len = strlen(word) / 2;
    bytes_t bytes = {allocate(len), len};
    for (size_t i = 0; i < len; i++)
        bytes.ptr[i] = read_byte(word, word + 2 * i);
    if (word[2 * len] != '\0')
        fail("%s is not bytes: half of one is missing", word);
    return bytes;
}

maybe_bytes_t read_maybe_bytes(const char *word)
{
    return strcmp(word, "~") == 0 ? (maybe_bytes_t){} : some(read_bytes(word));
}

char *read_text(char *word)
{
    for (char *space = word; (space = strchr(space, '_')) != NULL;)
        *space = ' ';
    return word;
}

types_header_t read_header(char *word)
{
    char *value = cut(word, '=');
    types_header_t header = {.value = read_maybe_bytes(value)};
    task_string_dup(&header.name, read_text(word));
    return header;
}

char *cut(char *word, char at)
{
    char *place = strchr(word, at);
    if (place == NULL)
        fail("%s has no %c", word, at);
    *place = '\0';
    return place + 1;
}

void show_text(FILE *out, task_string_t text)
{
    fwrite(text.ptr, 1, text.len, out);
}

static void show_hex(FILE *out, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        fprintf(out, "%02x", bytes[i]);
}

void show_bytes(FILE *out, maybe_bytes_t bytes)
{
    const uint8_t *ptr = bytes.val.ptr;
    size_t len = bytes.val.len;
    if (!bytes.is_some) {
        fputc('~', out);
    } else if (len == 0) {
        fputc('.', out);
    } else if (len <= SHOWN_WHOLE) {
        show_hex(out, ptr, len);
    } else {
        uint64_t sum = 0;
        for (size_t i = 0; i < len; i++)
            sum += ptr[i];
        fprintf(out, "#%zu:%" PRIu64 ":", len, sum);
        show_hex(out, ptr, SHOWN_OF_LONG);
        fputc(':', out);
        show_hex(out, ptr + len - SHOWN_OF_LONG, SHOWN_OF_LONG);
    }
}
