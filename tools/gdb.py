# SPDX-License-Identifier: MIT
"""A command for gdb that says what a pointer is to hakmem, in a process or a core.

    (gdb) source /usr/share/hakmem/gdb.py
    (gdb) hakmem block p
    0x7f12c0a41240: block 21 of 23 in a slab of 65,536 bytes at 0x7f12c0a40000, blocks of 2,816 bytes
    heap 1, node 0; allocated

It needs no debugging symbols of hakmem's: it reads the live block (src/live.h), as `hakmem stat`
does. A block that is in a magazine, or on its way home from another thread, is free for the
program; both are looked at.
"""
import struct

import gdb

SPAN, SPAN_REST = 0xF00, 0xF20

# struct hak_live, in order: name and format
FIELDS = [("magic", "8s"), ("version", "I"), ("bytes", "I"), ("library", "16s")]
FIELDS += [(n + s, "Q") for n in ("process", "heap", "node") for s in ("_at", "_count")]
FIELDS += [("heap_count_at", "Q"), ("heap_chunks_at", "Q")]
FIELDS += [(n, "I") for n in (
    "chunk_heaps heap_bytes heap_lock heap_node heap_parked heap_stages stage_count heap_mags mag_bytes mag_top "
    "heap_classes heap_class_bytes class_slabs class_nfree class_entries pad").split()]
FIELDS += [("stage", "96s"), ("classes_at", "Q")]
FIELDS += [(n, "I") for n in "class_count class_bytes tiny_classes pool_classes class_stride class_capacity".split()]
FIELDS += [("nodes_at", "Q"), ("span_arenas_at", "Q")]
FIELDS += [(n, "I") for n in (
    "node_count node_bytes node_arenas arena_next arena_base arena_small_end arena_huge_start arena_super arena_supers "
    "arena_head_bytes").split()]
FIELDS += [("windows_at", "Q")]
FIELDS += [(n, "I") for n in (
    "window_count window_bytes window_base window_granules window_tags window_arenas "
    "tag_heap_shift code_shift granule_shift arena_shift "
    "arena_slabs slab_bytes slab_free_words slab_carved class_mask "
    "heap_remote heap_remote_count heap_inbox heap_rest parcel_next parcel_count parcel_blocks").split()]


def read(at, fmt):
    return struct.unpack("<" + fmt, bytes(gdb.selected_inferior().read_memory(at, struct.calcsize("<" + fmt))))


def word(at):
    return read(at, "Q")[0]


def number(at):
    return read(at, "I")[0]


class Live:
    """The live block's fields as attributes."""

    def __init__(self):
        try:
            at = int(gdb.parse_and_eval("(unsigned long)&hakmem_live"))
        except gdb.error:
            raise gdb.GdbError("this program does not run on hakmem (there is no symbol hakmem_live)")
        fmt = "".join(f for _, f in FIELDS)
        for (name, _), value in zip(FIELDS, read(at, fmt)):
            setattr(self, name, value)
        if self.magic != b"hakmem\n\0" or self.version != 1 or self.bytes < struct.calcsize("<" + fmt):
            raise gdb.GdbError("hakmem's live block is of another version than this script reads")

    def window(self, p):
        """(address, granule of p) of the window that p lies in, or None."""
        for i in range(self.window_count):
            w = self.windows_at + i * self.window_bytes
            granule = (p - word(w + self.window_base)) >> self.granule_shift
            if 0 <= granule < word(w + self.window_granules):
                return w, granule
        return None

    def heap(self, number_):
        chunk = word(self.heap_chunks_at + number_ // self.chunk_heaps * 8)
        return word(chunk + number_ % self.chunk_heaps * 8)

    def class_field(self, c, field):
        return number(self.classes_at + c * self.class_bytes + field)


def heaps(live):
    return ((h, live.heap(h)) for h in range(1, number(live.heap_count_at) + 1))


def cached(live, heap, c, block):
    """True if the block lies in the heap's magazine of its class."""
    entries = word(heap + live.heap_classes + c * live.heap_class_bytes + live.class_entries)
    top = word(heap + live.heap_mags + c * live.mag_bytes + live.mag_top)
    return bool(entries) and any(word(at) == block for at in range(entries + 8, top + 8, 8))


def parcels(live, first):
    while first:
        count = number(first + live.parcel_count)
        yield from (word(first + live.parcel_blocks + i * 8) for i in range(count))
        first = word(first + live.parcel_next)


def on_its_way(live, owner, block):
    """The number of the heap that holds the block for its owner; 0: it is in the owner's inbox."""
    if block in parcels(live, word(owner + live.heap_inbox)) or block in parcels(live, word(owner + live.heap_rest)):
        return 0
    for h, heap in heaps(live):
        count = number(heap + live.heap_remote_count)
        if any(word(heap + live.heap_remote + i * 8) == block for i in range(count)):
            return h
    return None


def state(live, slab, heap, c, index, block):
    free_words = word(slab + live.slab_free_words)
    if word(free_words + index // 64 * 8) >> index % 64 & 1:
        return "free" + (", never used" if index >= number(slab + live.slab_carved) else "")
    # the owner's, or one of a thread that uses its slabs
    for h, other in heaps(live):
        if cached(live, other, c, block):
            return "free, in the heap's magazine" if other == heap else "free, in heap %d's magazine" % h
    holder = on_its_way(live, heap, block)
    if holder is not None:
        return "free, on its way home" + (" from heap %d" % holder if holder else "")
    return "allocated"


def describe(live, p):
    """What p is: lines of text."""
    found = live.window(p)
    tag = number(word(found[0] + live.window_tags) + found[1] * 4) if found else 0
    if not tag:
        return ["0x%x: no block of hakmem's, or one of 64 MiB and above" % p]
    window, granule = found
    code, owner = tag & ((1 << live.tag_heap_shift) - 1), tag >> live.tag_heap_shift
    granule_bytes = 1 << live.granule_shift
    arena_granules = 1 << (live.arena_shift - live.granule_shift)
    arena = word(word(window + live.window_arenas) + granule // arena_granules * 8)
    if code >= SPAN:
        while code == SPAN_REST: # back to the first granule of the block
            granule -= 1
            code = number(word(window + live.window_tags) + granule * 4)
        slab = arena + live.arena_slabs + granule % arena_granules * live.slab_bytes
        start = word(window + live.window_base) + granule * granule_bytes
        bytes_ = number(slab + live.slab_carved) * granule_bytes
        return ["0x%x: %s+%d of a block of %s bytes, whole granules" % (p, hex(start), p - start, format(bytes_, ",")),
                "allocated"]
    c = code >> live.code_shift
    stride, mask = live.class_field(c, live.class_stride), live.class_field(c, live.class_mask)
    base = p & ~mask
    index, offset = divmod(p - base, stride)
    capacity = live.class_field(c, live.class_capacity)
    where = "a slab of %s bytes at 0x%x, blocks of %s bytes" % (format(mask + 1, ","), base, format(stride, ","))
    if index >= capacity:
        return ["0x%x: behind the last block of %s" % (p, where)]
    first = (base - word(arena + live.arena_base)) >> live.granule_shift
    slab = arena + live.arena_slabs + first * live.slab_bytes
    heap = live.heap(owner)
    inside = "%d bytes into " % offset if offset else ""
    return ["0x%x: %sblock %d of %d in %s" % (p, inside, index, capacity, where),
            "heap %d, node %d; %s" % (owner, number(heap + live.heap_node),
                                      state(live, slab, heap, c, index, base + index * stride))]


class Prefix(gdb.Command):
    """What hakmem knows of this process or core."""

    def __init__(self):
        super().__init__("hakmem", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)


class Block(gdb.Command):
    """hakmem block EXPRESSION: the slab, class and heap of a pointer, and whether it is free."""

    def __init__(self):
        super().__init__("hakmem block", gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, argument, from_tty):
        if not argument:
            raise gdb.GdbError("hakmem block needs an expression")
        p = int(gdb.parse_and_eval("(unsigned long)(%s)" % argument))
        print("\n".join(describe(Live(), p)))


Prefix()
Block()
