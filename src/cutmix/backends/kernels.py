"""The compiled loops of the host (numba): they know addresses and bytes, no tensors and no dtypes.

Compiled when they are first called, then kept on disk. They trust their caller: what they are told lies in memory.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

compiled = numba.njit(cache=True, nogil=True)


class Batch(NamedTuple):
    """Where a batch lies: its address, and the bytes from one sample, outer part, row, ... to the next."""

    start: int
    sample: int
    outer: int
    first: int
    second: int
    place: int


class Size(NamedTuple):
    """How many samples there are to be pasted, outer parts in each, and places along each of its three axes."""

    source: int
    outers: int
    first: int
    second: int
    last: int


class Box(NamedTuple):
    """Where a box starts and stops along each of its three axes: in plain numbers, which a loop keeps in registers."""

    first: int
    first_stop: int
    second: int
    second_stop: int
    last: int
    last_stop: int


class Share(NamedTuple):
    """A thread's share of the rows of every outer part: of ``rows`` from ``first`` on, counted through all parts.

    A row of an image belongs to one share, whatever the box, and rows beside each other to the same one: two threads
    that write to one cache line would wait for each other. The outer parts in which it has any are ``outer`` and those
    before ``outers``.
    """

    first: int
    rows: int
    start: int
    stop: int
    outer: int
    outers: int


CACHE_LINE = 64
"""In bytes."""
IN_RUNS, IN_SLABS, PAST_CACHE = 0, 1, 2
"""How to paste: each sample in one run, and its box over it; no place twice; no place twice, and past the cache."""
FINE, NOBODY, NO_PERMUTATION = 0, 1, 2
"""What a kernel says of the partners; it writes nothing unless they are fine."""


@compiled
def paste(out, own, source, size, partners, boxes, way, part, parts):  # noqa: ANN001, ANN201, PLR0913 - numba infers
    """Fill the ``part``-th share of the samples of ``out`` with their own images, and their boxes from ``source``.

    Past the cache go samples that are dense and lie alike in all three, where in ``out`` each fills lines of the cache,
    and no row is shorter than a line: no more than two runs of a box then meet in one.
    """
    batch = len(partners)
    if not _are_there(partners, size.source):
        return NOBODY
    whole = Box(0, size.first, 0, size.second, 0, size.last)
    all_rows = _share(0, size.first, 0, size.outers * size.first)
    for sample in range(batch * part // parts, batch * (part + 1) // parts):
        box, partner = _box_of(boxes, sample), partners[sample]
        if way == PAST_CACHE:
            _stream(box, size, out, sample, own, source, partner)
            continue
        if way == IN_SLABS:
            _copy_around(box, whole, all_rows, out, own, sample)
        elif out.start != own.start:
            _copy_box(whole, all_rows, out, sample, own, sample, 0)
        _copy_box(box, all_rows, out, sample, source, partner, 0)
    if way == PAST_CACHE:
        _fence()
    return FINE


@compiled
def _copy_around(box, whole, share, out, own, sample):  # noqa: ANN001, ANN202
    """Copy what lies outside of a box, in slabs: before and behind it along each axis, within it along those before."""
    top, bottom, left, right = box.first, box.first_stop, box.second, box.second_stop
    for slab in (
        Box(0, top, 0, whole.second_stop, 0, whole.last_stop),
        Box(bottom, whole.first_stop, 0, whole.second_stop, 0, whole.last_stop),
        Box(top, bottom, 0, left, 0, whole.last_stop),
        Box(top, bottom, right, whole.second_stop, 0, whole.last_stop),
        Box(top, bottom, left, right, 0, box.last),
        Box(top, bottom, left, right, box.last_stop, whole.last_stop),
    ):
        _copy_box(slab, share, out, sample, own, sample, 0)


@compiled
def _stream(box, size, out, sample, own, source, partner):  # noqa: ANN001, ANN202, PLR0913
    """Write a sample past the cache, in the order of memory; ``at`` is how far it has come."""
    to, shown = out.start + sample * out.sample, own.start + sample * own.sample
    pasted = source.start + partner * source.sample
    row, run = size.last * out.place, (box.last_stop - box.last) * out.place
    outer, first, second = 0, box.first, box.second
    following = _start_of_run(outer, first, second, box, size, out.place)
    seam, at = np.empty(CACHE_LINE, dtype=np.uint8), 0
    for _ in range(size.outers * (box.first_stop - box.first) * (box.second_stop - box.second) if run else 0):
        start, second = following, second + 1
        if second == box.second_stop:
            first, second = first + 1, box.second
        if first == box.first_stop:
            outer, first = outer + 1, box.first
        following = _start_of_run(outer, first, second, box, size, out.place)
        for origin, stop in ((shown, start), (pasted, start + run)):
            while at + CACHE_LINE <= stop:
                _stream_line(to + at, origin + at)
                at += CACHE_LINE
            if at < stop:
                _fill_seam(seam.ctypes.data, at, (start, following), run, shown, pasted)
                _stream_line(to + at, seam.ctypes.data)
                at += CACHE_LINE
    for rest in range(at, size.outers * size.first * size.second * row, CACHE_LINE):
        _stream_line(to + rest, shown + rest)


@compiled
def _start_of_run(outer, first, second, box, size, place):  # noqa: ANN001, ANN202
    """Return where a box's run in this row of a dense sample begins."""
    return (((outer * size.first + first) * size.second + second) * size.last + box.last) * place


@compiled
def _fill_seam(line, at, starts, run, shown, pasted):  # noqa: ANN001, ANN202
    """Put together a line of both images, in which a run may end and the next one begin."""
    _memcpy(line, shown + at, CACHE_LINE)
    for start in starts:
        left, right = max(start, at), min(start + run, at + CACHE_LINE)
        if left < right:
            _memcpy(line + left - at, pasted + left, right - left)


@compiled
def walk(images, size, partners, boxes, saved, room, part, parts):  # noqa: ANN001, ANN201, PLR0913
    """Fill the ``part``-th share of each box's rows from the partner, along each cycle of partners.

    From ``saved`` on each part has ``room`` bytes of its own, for one row of an image at least.
    """
    if not _are_there(partners, len(partners)):
        return NOBODY
    shown = np.zeros(len(partners), dtype=np.bool_)
    for partner in partners:
        if shown[partner]:
            return NO_PERMUTATION
        shown[partner] = True
    first, rows = (boxes[0, 0, 0], boxes[0, 1, 0] - boxes[0, 0, 0]) if len(boxes) == 1 else (0, size.first)
    start, stop = size.outers * rows * part // parts, size.outers * rows * (part + 1) // parts
    second = size.last * images.place
    row_bytes = size.second * second
    together = room // row_bytes
    for row in range(start, stop, together):
        share = _share(first, rows, row, min(row + together, stop))
        spare_start = saved + part * room - (row + first) * row_bytes
        spare = Batch(spare_start, 0, rows * row_bytes, row_bytes, second, images.place)
        _walk_rows(images, spare, partners, boxes, share)
    return FINE


@compiled
def _walk_rows(images, spare, partners, boxes, share):  # noqa: ANN001, ANN202
    """Walk along each cycle of partners, for a share of the rows, which ``spare`` has room for."""
    done = np.zeros(len(partners), dtype=np.bool_)
    for start in range(len(partners)):
        if done[start] or partners[start] == start:
            continue
        last = start
        while partners[last] != start:
            last = partners[last]
        _copy_box(_box_of(boxes, last), share, spare, 0, images, start, 0)
        sample = start
        while sample != last:
            done[sample], partner = True, partners[sample]
            box, following = _box_of(boxes, sample), _box_of(boxes, partner)
            ahead = (partners[partner] - partner) * images.sample + (following.last - box.last) * images.place
            _copy_box(box, share, images, sample, images, partner, ahead)
            sample = partner
        done[last] = True
        _copy_box(_box_of(boxes, last), share, images, last, spare, 0, 0)


@compiled
def normalize(out, images, table, partners, boxes, part, parts):  # noqa: ANN001, ANN201, PLR0913
    """Fill the ``part``-th share of the samples of ``out`` with what ``table`` has for each pixel that shows.

    ``out`` and ``images`` are (batch, channels, height, width), ``table`` is (channels, 256).
    """
    batch, channels, height, width = images.shape
    if not _are_there(partners, batch):
        return NOBODY
    for sample in range(batch * part // parts, batch * (part + 1) // parts):
        own, pasted, box = images[sample], images[partners[sample]], _box_of(boxes, sample)
        for row in range(height):
            inside = box.first <= row < box.first_stop
            left, right = (box.last, box.last_stop) if inside else (width, width)
            for channel in range(channels):
                shown, values = out[sample, channel, row], table[channel]
                _look_up(shown[:left], own[channel, row, :left], values)
                _look_up(shown[left:right], pasted[channel, row, left:right], values)
                _look_up(shown[right:], own[channel, row, right:], values)
    return FINE


@compiled
def _look_up(out, pixels, values):  # noqa: ANN001, ANN202
    for place in range(len(pixels)):
        out[place] = values[pixels[place]]


@compiled
def _are_there(partners, samples):  # noqa: ANN001, ANN202
    return partners.min() >= 0 and partners.max() < samples


@compiled
def _box_of(boxes, sample):  # noqa: ANN001, ANN202
    starts, stops = boxes[min(sample, len(boxes) - 1)]
    return Box(starts[0], stops[0], starts[1], stops[1], starts[2], stops[2])


@compiled
def _share(first, rows, start, stop):  # noqa: ANN001, ANN202
    return Share(first, rows, start, stop, start // rows if rows else 0, -(-stop // rows) if rows else 0)


@compiled
def _copy_box(box, share, out, sample, source, partner, ahead):  # noqa: ANN001, ANN202, PLR0913
    """Copy a thread's share of the rows of a box; each also asks for what lies ``ahead`` bytes on; 0: nothing."""
    seconds, run = box.second_stop - box.second, (box.last_stop - box.last) * out.place
    to, at, outers = _corner(out, sample, box), _corner(source, partner, box), share.outers
    whole = share.start == 0 and share.stop == outers * share.rows
    if whole and _is_dense(box, outers, out) and _is_dense(box, outers, source):
        _memcpy(to, at, outers * (box.first_stop - box.first) * seconds * run)
        return
    for outer in range(share.outer, outers):
        passed = outer * share.rows - share.first
        for row in range(max(box.first, share.start - passed), min(box.first_stop, share.stop - passed)):
            first = row - box.first
            target = to + outer * out.outer + first * out.first
            origin = at + outer * source.outer + first * source.first
            if ahead:
                _prefetch(origin + ahead)
            for second in range(seconds):
                _memcpy(target + second * out.second, origin + second * source.second, run)


@compiled
def _corner(batch, sample, box):  # noqa: ANN001, ANN202
    inside = box.first * batch.first + box.second * batch.second + box.last * batch.place
    return batch.start + sample * batch.sample + inside


@compiled
def _is_dense(box, outers, batch):  # noqa: ANN001, ANN202
    """Tell whether the box's runs follow each other without a gap."""
    firsts, seconds = box.first_stop - box.first, box.second_stop - box.second
    run = (box.last_stop - box.last) * batch.place
    return (
        (batch.second == run or seconds == 1)
        and (batch.first == seconds * run or firsts == 1)
        and (batch.outer == firsts * seconds * run or outers == 1)
    )


@intrinsic
def _memcpy(_, to, at, count):  # noqa: ANN001, ANN202, ARG001 - typed below
    """Copy ``count`` bytes from one address to another."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:  # noqa: ANN401 - llvm's own
        target, origin, length = arguments
        pointer = ir.IntType(8).as_pointer()
        cgutils.raw_memcpy(builder, builder.inttoptr(target, pointer), builder.inttoptr(origin, pointer), length, 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def _prefetch(_, at):  # noqa: ANN001, ANN202, ARG001 - typed below
    """Ask for the cache line at an address, which may be any: nothing is read."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:  # noqa: ANN401 - llvm's own
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, to_keep, data = number(0), number(3), number(1)
        builder.call(prefetch, [builder.inttoptr(arguments[0], pointer), to_read, to_keep, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def _stream_line(_, to, at):  # noqa: ANN001, ANN202, ARG001 - typed below
    """Copy what fills a line of the cache, from any address to where a line begins, past the cache.

    An ordinary store has the line read first, a third of all that a copy moves.
    """

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:  # noqa: ANN401 - llvm's own
        target, origin = arguments
        pointer = ir.VectorType(ir.IntType(8), CACHE_LINE).as_pointer()
        line = builder.load(builder.inttoptr(origin, pointer), align=1)
        store = builder.store(line, builder.inttoptr(target, pointer), align=CACHE_LINE)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _fence(_):  # noqa: ANN001, ANN202 - typed below
    """Wait until all threads can see what was written past the cache."""

    def generate(context: Any, builder: Any, *_: Any) -> Any:  # noqa: ANN401 - llvm's own
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate
