/* A growing byte buffer for code without the GIL.
 *
 * Owns its memory (malloc); zero-initialised is empty and valid. Never shrinks by itself, never
 * moves while nobody reserves: positions are kept as offsets from `data`, not as pointers.
 */
#ifndef SEAFOAM_BUFFER_H
#define SEAFOAM_BUFFER_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *data;
    size_t used_bytes;
    size_t capacity_bytes;
} seafoam_buffer;

/* Makes room for extra_bytes behind used_bytes; 0 or -1 where memory is short (then unchanged). */
static inline int buffer_reserve(seafoam_buffer *buffer, size_t extra_bytes)
{
    size_t needed, capacity;
    uint8_t *moved;
    if (extra_bytes <= buffer->capacity_bytes - buffer->used_bytes)
        return 0;
    if (extra_bytes > SIZE_MAX / 2 - buffer->used_bytes)
        return -1;
    needed = buffer->used_bytes + extra_bytes;
    capacity = buffer->capacity_bytes ? buffer->capacity_bytes : 4096;
    while (capacity < needed)
        capacity *= 2;
    moved = (uint8_t *)realloc(buffer->data, capacity);
    if (moved == NULL)
        return -1;
    buffer->data = moved;
    buffer->capacity_bytes = capacity;
    return 0;
}

static inline int buffer_append(seafoam_buffer *buffer, const void *source, size_t source_bytes)
{
    if (buffer_reserve(buffer, source_bytes) != 0)
        return -1;
    if (source_bytes != 0)
        memcpy(buffer->data + buffer->used_bytes, source, source_bytes);
    buffer->used_bytes += source_bytes;
    return 0;
}

static inline void buffer_free(seafoam_buffer *buffer)
{
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

#endif
